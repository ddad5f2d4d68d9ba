"""Mutations of feature files that belong to one format: keys, links and storage of h5, members and headers of npz."""

import io
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.fuzz.feature_files import draw, values
from tests.fuzz.registry import Plan, mutation
from tests.fuzz.world import Box


class Payload:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


def _grid(box: Box, rng: random.Random) -> tuple[Path, np.ndarray, Plan]:
    path, plan = draw(box, rng, "h5")
    array = values(path)
    path.unlink()
    return path, array, plan


@mutation("data", weight=2)
def grid_under_another_key(box: Box, rng: random.Random) -> Plan:
    path, array, plan = _grid(box, rng)
    key = rng.choice(["features", f"{path.stem}/feature", f"{path.stem}x/features", f"{path.stem}/features/features"])
    with h5py.File(path, "w") as file:
        file[key] = array
    return plan


@mutation("data", weight=3)
def grid_link_leads_nowhere(box: Box, rng: random.Random) -> Plan:
    """A loop of soft links, a soft link to nothing, a group, or a named type where the dataset is meant."""
    path, _, plan = _grid(box, rng)
    key = f"{path.stem}/features"
    with h5py.File(path, "w") as file:
        kind = rng.choice(["loop", "dangling", "group", "type"])
        if kind == "loop":
            file[key] = h5py.SoftLink(f"/{key}")
        elif kind == "dangling":
            file[key] = h5py.SoftLink("/nothing")
        elif kind == "group":
            file.create_group(key)
        else:
            file[key] = np.dtype("f4")
    return plan


@mutation("data", weight=3)
def grid_outside_of_its_file(box: Box, rng: random.Random) -> Plan:
    """External storage, an external link, or a virtual dataset: values of another file of the system."""
    path, array, plan = _grid(box, rng)
    key = f"{path.stem}/features"
    other = box.write(box.folder / "elsewhere.bin", array.astype("f2").tobytes())
    with h5py.File(path, "w", libver="latest") as file:
        kind = rng.choice(["storage", "link", "virtual"])
        if kind == "storage":
            file.create_dataset(key, array.shape, "f2", external=[(str(other), 0, h5py.h5f.UNLIMITED)])
        else:
            source = box.folder / "elsewhere.h5"
            with h5py.File(source, "w") as target:
                target["features"] = array
            if kind == "link":
                file[key] = h5py.ExternalLink(str(source), "/features")
            else:
                place = h5py.VirtualLayout(array.shape, array.dtype)
                place[:] = h5py.VirtualSource(str(source), "features", array.shape)
                file.create_virtual_dataset(key, place)
    return plan


@mutation("data", weight=2)
def grid_declares_more_than_there_is(box: Box, rng: random.Random) -> Plan:
    """A dataset of 40 GB or of petabytes, none of which is in the file."""
    path, array, plan = _grid(box, rng)
    shape = rng.choice([(10 << 30, array.shape[1]), (36, 300_000_000), (1 << 50, array.shape[1])])
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(f"{path.stem}/features", shape, "f4", chunks=(1, min(shape[1], 1024)), fillvalue=0.5)
    return plan


@mutation("data")
def grid_of_odd_type(box: Box, rng: random.Random) -> Plan:
    path, _array, plan = _grid(box, rng)
    key = f"{path.stem}/features"
    with h5py.File(path, "w") as file:
        kind = rng.choice(["empty", "strings", "ragged", "references", "compound", "opaque"])
        if kind == "empty":
            file[key] = h5py.Empty("f4")
        elif kind == "strings":
            file.create_dataset(key, (3, 3), h5py.string_dtype())
        elif kind == "ragged":
            file.create_dataset(key, (9,), h5py.vlen_dtype("f4"))
        elif kind == "references":
            file.create_dataset(key, (3, 3), h5py.ref_dtype)
        elif kind == "compound":
            file.create_dataset(key, (3, 3), [("x", "f4"), ("y", "f4")])
        else:
            file.create_dataset(key, (3, 3), np.dtype("V8"))
    return plan


@mutation("data", "harmless")
def grid_with_more_in_its_file(box: Box, rng: random.Random) -> Plan:
    path, array, plan = _grid(box, rng)
    with h5py.File(path, "w") as file:
        file[f"{path.stem}/boxes"] = np.zeros((9, 4))
        file[f"{path.stem}/features"] = array
        file.attrs["extractor"] = "another edition"
    return plan


@mutation("data", weight=2)
def frames_under_another_key(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng, "npz")
    array = values(path)
    path.unlink()
    if rng.random() < 0.5:
        np.savez(path, **{rng.choice(["feature", "arr_0", "Features"]): array})
    else:
        with path.open("wb") as file:
            np.save(file, array)  # a bare array under the name of an archive
    return plan


@mutation("data", weight=2)
def frames_with_code(box: Box, rng: random.Random) -> Plan:
    """An array of objects, or a bare pickle, that runs code when it is read."""
    path, plan = draw(box, rng, "npz")
    path.unlink()
    payload = Payload(box.marker)
    if rng.random() < 0.5:
        box.write(path, pickle.dumps(payload))
        return plan
    array = np.empty((2, 2), dtype=object)
    array[:] = payload
    np.savez(path, features=array)
    return plan


@mutation("data", weight=2)
def frames_declare_more_than_there_is(box: Box, rng: random.Random) -> Plan:
    """A header of 20 GB, of petabytes, or of a negative size before a few bytes."""
    path, plan = draw(box, rng, "npz")
    shape = rng.choice([(20 << 20, 256), (1 << 48, 512), (-1, 512), (1 << 62, 1 << 62)])
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    _member(box, path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 4096)
    return plan


@mutation("data", weight=2)
def frames_with_odd_header(box: Box, rng: random.Random) -> Plan:
    path, plan = draw(box, rng, "npz")
    header = rng.choice(
        [
            "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }",
            "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2, 2), }",
            "{'descr': '<f4', 'fortran_order': 5, 'shape': (2, 2), }",
            "{'descr': '<f4', 'shape': (2, 2), }",
            "__import__('os').system('true')",
            "(" * 3000,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2), }",
        ]
    )
    text = header.encode() + b"\n"
    _member(box, path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 16)
    return plan


def _member(box: Box, path: Path, content: bytes) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("features.npy", content)
    box.write(path, archive.getvalue())
