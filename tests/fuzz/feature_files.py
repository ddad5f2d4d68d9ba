"""Mutations of feature files that both formats know: what stands in their place, and values that are none."""

import fcntl
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.data.extraction_manifest import CHECKSUMS, MANIFEST
from tests.fuzz import layout
from tests.fuzz.registry import Plan, mutation
from tests.fuzz.world import Box


def draw(box: Box, rng: random.Random, kind: str = "") -> tuple[Path, Plan]:
    """Copy the root into the box and return one feature file of it, ``.h5`` or ``.npz``."""
    box.use_root()
    kind = kind or rng.choice(["h5", "npz"])
    if kind == "h5":
        source = rng.choice(list(layout.GRIDS))
        folder, tasks = box.root / source / layout.FEATURES, layout.GRIDS[source]
    else:
        source = rng.choice(list(layout.FRAMES))
        folder, tasks = box.root / "video" / "vis_features" / source / "clip-vit", layout.FRAMES[source]
    path = rng.choice(sorted(folder.glob(f"*.{kind}")))
    if source == "COCO" and rng.random() < 0.1:
        tasks = ("caption",)
    return path, layout.plan(path, tasks)


def values(path: Path) -> np.ndarray:
    """Return the features of a file as they are."""
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            return file[f"{path.stem}/features"][()]
    with np.load(path) as file:
        return file["features"]


def put(box: Box, path: Path, array: Any, **options: Any) -> None:
    """Write features anew; ``options`` go to h5py's ``create_dataset``."""
    path.unlink()
    if path.suffix == ".h5":
        with h5py.File(path, "w", libver="latest") as file:
            file.create_dataset(f"{path.stem}/features", data=array, **options)
    else:
        np.savez(path, features=array)


def _changed(box: Box, rng: random.Random, edit: Callable[[np.ndarray], Any]) -> Plan:
    path, plan = draw(box, rng)
    put(box, path, edit(values(path)))
    plan.fields = ("features",)
    return plan


@mutation("data", weight=2)
def feature_file_replaced(box: Box, rng: random.Random) -> Plan:
    """Deleted, emptied, cut off, noise, or a file of the other format."""
    path, plan = draw(box, rng)
    content = path.read_bytes()
    kind = rng.randrange(6)
    if kind == 0:
        path.unlink()
        return plan
    other = b"PK\x03\x04" if path.suffix == ".h5" else b"\x89HDF\r\n\x1a\n"
    cut = content[: rng.randrange(1, len(content) - 30)]
    noise = bytes(rng.randrange(256) for _ in range(900))
    box.write(path, [b"", cut, noise, other + noise, b"{}"][kind - 1])
    return plan


@mutation("data", weight=3)
def feature_file_damaged(box: Box, rng: random.Random) -> Plan:
    """A run of bytes in the middle of the file is overwritten: where it matters, the file must not be accepted."""
    path, plan = draw(box, rng, "npz")
    content = bytearray(path.read_bytes())
    at = rng.randrange(200, len(content) - 400)
    content[at : at + 64] = bytes(byte ^ 0x5A for byte in content[at : at + 64])
    box.write(path, bytes(content))
    return plan


@mutation("data", weight=2)
def feature_file_is_no_file(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng)
    path.unlink()
    kind = rng.choice(["folder", "loop", "dangling", "null device"])
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.symlink_to("/nowhere/at-all" if kind == "dangling" else "/dev/null")
    return plan


@mutation("data", weight=2)
def feature_file_is_fifo(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng)
    path.unlink()
    os.mkfifo(path)
    return plan


@mutation("data")
def feature_folder_is_no_folder(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng)
    folder = path.parent
    shutil.rmtree(folder)
    kind = rng.choice(["absent", "file", "loop", "empty"])
    if kind == "file":
        folder.write_bytes(b"")
    elif kind == "loop":
        folder.symlink_to(folder.name)
    elif kind == "empty":
        folder.mkdir()
    plan.names = (folder.name, path.name)
    return plan


@mutation("data", weight=5)
def feature_not_finite(box: Box, rng: random.Random) -> Plan:
    """One value, a row, or everything is NaN or infinite."""
    bad = rng.choice([np.nan, np.inf, -np.inf])

    def edit(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        place = rng.choice(["one", "row", "all"])
        if place == "one":
            array[rng.randrange(len(array)), rng.randrange(array.shape[1])] = bad
        elif place == "row":
            array[rng.randrange(len(array))] = bad
        else:
            array[:] = bad
        return array

    return _changed(box, rng, edit)


@mutation("data", weight=2)
def feature_not_finite_in_float32(box: Box, rng: random.Random) -> Plan:
    """Finite as float64, infinite as the float32 that the model is given."""
    value = rng.choice([1e300, -1e300, 1e39])
    return _changed(box, rng, lambda a: np.where(np.arange(a.size).reshape(a.shape) == 7, value, a.astype(np.float64)))


@mutation("data", weight=2)
def every_evaluated_feature_not_finite(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng)
    for other in sorted(path.parent.glob(f"*{path.suffix}")):  # not the manifest beside them
        put(box, other, np.full_like(values(other), np.nan))
    plan.names, plan.fields = (path.suffix,), ("features",)
    return plan


@mutation("data", weight=3)
def feature_of_wrong_kind(box: Box, rng: random.Random) -> Plan:
    """Integers, booleans, complex numbers, text, one dimension, three."""
    kind = rng.choice(["int", "bool", "complex", "bytes", "flat", "cube", "scalar"])
    edits: dict[str, Callable[[np.ndarray], Any]] = {
        "int": lambda a: a.astype(np.int32),
        "bool": lambda a: a > 0,
        "complex": lambda a: a.astype(np.complex64),
        "bytes": lambda a: a.astype("S8"),
        "flat": lambda a: a.reshape(-1),
        "cube": lambda a: a[None],
        "scalar": lambda a: np.float32(1),
    }
    return _changed(box, rng, edits[kind])


@mutation("data", weight=3)
def feature_with_other_columns(box: Box, rng: random.Random) -> Plan:
    edit = rng.choice([lambda a: a[:, :-1], lambda a: np.concatenate([a, a], axis=1), lambda a: a[:, :0]])
    return _changed(box, rng, edit)


@mutation("data", weight=4)
def grid_with_other_tokens(box: Box, rng: random.Random) -> Plan:
    """None, fewer or more tokens than the other images have."""
    path, plan = draw(box, rng, "h5")
    array = values(path)
    edit = rng.choice([lambda a: a[:0], lambda a: a[:1], lambda a: a[:-1], lambda a: np.repeat(a, 6, axis=0)])
    put(box, path, edit(array))
    plan.fields = ("token", "rows", "shape", "n_boxes")
    return plan


@mutation("data")
def every_grid_of_fifty_tokens(box: Box, rng: random.Random) -> Plan:
    """CLIP ViT-B/32 with its class token: the message names ``--set n_boxes=50``."""
    box.use_root()
    for source in layout.GRIDS:
        folder = box.root / source / layout.FEATURES
        for name in (MANIFEST, CHECKSUMS):  # features of one's own, not those that were extracted
            (folder / name).unlink(missing_ok=True)
        for path in sorted(folder.glob("*.h5")):
            array = values(path)
            put(box, path, np.resize(array, (50, array.shape[1])))
    return Plan(names=("50",), fields=("n_boxes",), judge=layout.judge.data, facts={"tasks": ("gqa",)})


@mutation("data")
def frames_without_rows(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng, "npz")
    put(box, path, values(path)[:0])
    return plan


@mutation("data", "harmless")
def frames_of_any_number(box: Box, rng: random.Random) -> Plan:
    """One frame, or more than the model takes: padded, or pooled over time."""
    path, plan = draw(box, rng, "npz")
    put(box, path, np.resize(values(path), (rng.choice([1, 65, 500]), values(path).shape[1])))
    plan.facts["rescore"] = True
    return plan


@mutation("data", "harmless", weight=2)
def feature_stored_otherwise(box: Box, rng: random.Random) -> Plan:
    """The same values in another type, order of bytes, order in memory or compression."""
    path, plan = draw(box, rng)
    array = values(path)
    kind = rng.choice(["float32", "float64", "big-endian", "fortran", "compressed"])
    changed = {
        "float32": array.astype(np.float32),
        "float64": array.astype(np.float64),
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "fortran": np.asfortranarray(array),
        "compressed": array,
    }[kind]
    if kind == "compressed" and path.suffix == ".npz":
        path.unlink()
        np.savez_compressed(path, features=array, other=np.zeros(3))
    else:
        put(box, path, changed, **({"compression": "gzip", "chunks": True} if kind == "compressed" else {}))
    return plan


@mutation("data")
def grid_locked_by_another(box: Box, rng: random.Random) -> Plan:
    """Another process holds the file open for writing: the message names HDF5_USE_FILE_LOCKING."""
    path, plan = draw(box, rng, "h5")
    content = path.read_bytes()
    box.write(path, content)  # a lock on a hard link would lock the root of every case
    lock = os.open(path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    box.locks.append(lock)
    plan.fields = ("HDF5_USE_FILE_LOCKING",)
    return plan
