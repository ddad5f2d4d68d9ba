"""Making packs: the feature files of a folder are read with all checks, written to shards and compared with them."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import xxhash
from safetensors.numpy import save_file

from bench.data import feature_files
from bench.data.feature_files import Kind
from bench.data.feature_inspection import Listing, list_folder, process_map
from bench.data.mapped_arrays import Arrays, digest
from bench.data.packs import (
    DRAFT,
    DTYPES,
    EDITION,
    FOLDER,
    INDEX,
    FeaturePack,
    PackFault,
    Shard,
    Source,
    find_pack,
    index_digest,
)
from bench.errors import UsageError
from bench.files import explain_write_errors, write_json
from bench.suites import Features

SHARD_BYTES = 512 << 20  # of feature files in one shard: what a process holds in memory, and what interruption costs


@dataclass(frozen=True)
class PackReport:
    """What was done with a folder: number of feature files, shards written anew and kept, and whether values are
    exactly those of the files."""

    files: int
    written: int
    kept: int
    is_exact: bool


def pack_folder(
    folder: Path,
    features: Features,
    dtype: str,
    jobs: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackReport:
    """Pack the feature files of a folder; shards of an earlier or interrupted pack that are right are kept.

    Args:
        folder: the feature folder.
        features: the features of its suite.
        dtype: ``float32`` or ``float16``.
        jobs: the number of processes.
        progress: called with the number of files packed and of all.

    Raises:
        UsageError: a feature file is faulty, has other columns than the others, changes meanwhile, or is gone
            although it is in the pack; or nothing can be written there.
    """
    listing = {name: s for name, s in list_folder(folder).items() if name.endswith(features.suffix)}
    current = _usable(folder)
    if current and current.sources.keys() - listing.keys():
        current.require_current(listing)
        if new := listing.keys() - current.sources.keys():
            raise UsageError(
                f"{folder / min(new)}: is not in the pack, other files of which are gone; put these back to pack anew"
            )
        return PackReport(len(current), 0, len(current.shards), current.is_exact)
    draft = folder / DRAFT
    with explain_write_errors(folder, "ROOT"):
        draft.mkdir(exist_ok=True)
        kept, todo, done = [], [], 0
        for number, names in enumerate(_parts(listing)):
            path = draft / f"{number:05}.safetensors"
            sources = [listing[name][:2] for name in names]
            if _is_right(path, names, sources, dtype) or _adopt(folder, path, names, sources, dtype):
                kept.append(path)
                done += len(names)
            else:
                todo.append((path, names, sources))
        progress(done, len(listing))
        with process_map(min(jobs, len(todo))) as mapped:
            for (_, names, _), fault in zip(
                todo, mapped(partial(write_shard, features.kind, dtype), todo), strict=True
            ):
                if fault:
                    raise UsageError(fault)
                done += len(names)
                progress(done, len(listing))
        paths = sorted([*kept, *(path for path, _, _ in todo)])
        is_exact = _finish(folder, features.kind, dtype, paths)
    return PackReport(len(listing), len(todo), len(kept), is_exact)


def _usable(folder: Path) -> FeaturePack | None:
    """Return the pack that is there; None where there is none that can be used."""
    with suppress(PackFault):
        return find_pack(folder)
    return None


def _parts(listing: Listing) -> Iterator[list[str]]:
    """Yield the names of the files of every shard, in alphabetical order."""
    names: list[str] = []
    room = SHARD_BYTES
    for name in sorted(listing):
        if names and listing[name][0] > room:
            yield names
            names, room = [], SHARD_BYTES
        names.append(name)
        room -= listing[name][0]
    if names:
        yield names


def _is_right(path: Path, names: Sequence[str], sources: Sequence[Source], dtype: str) -> bool:
    """Return whether a shard is there, undamaged, and of exactly these files as they are now."""
    try:
        shard = Shard.open(path)
        if (shard.names, shard.sources) != (list(names), list(sources)) or shard.features.dtype != DTYPES[dtype]:
            return False
        for index in range(len(names)):
            shard.read(index)
    except PackFault:
        return False
    return True


def _adopt(folder: Path, path: Path, names: Sequence[str], sources: Sequence[Source], dtype: str) -> bool:
    """Take a shard over from the pack that is there; return whether it could be."""
    earlier = folder / FOLDER / path.name
    if not _is_right(earlier, names, sources, dtype):
        return False
    path.unlink(missing_ok=True)
    try:
        os.link(earlier, path)
    except OSError:  # a file system without hard links
        shutil.copyfile(earlier, path)
    return True


def write_shard(kind: Kind, dtype: str, work: tuple[Path, Sequence[str], Sequence[Source]]) -> str:
    """Write one shard, compare what is in it with what was read, and return what is wrong, "" where nothing is."""
    path, names, sources = work
    folder = path.parents[1]
    try:
        arrays = [feature_files.read(folder / name, kind) for name in names]
        with np.errstate(over="ignore"):
            stored = [array.astype(DTYPES[dtype]) for array in arrays]
        for name, array, rows in zip(names, arrays, stored, strict=True):
            if array.shape[1] != arrays[0].shape[1]:
                raise UsageError(
                    f"{folder / name}: features of {array.shape[1]} columns, but {names[0]} has {arrays[0].shape[1]}; "
                    "a suite needs one kind of features"
                )
            if not np.isfinite(rows).all():
                raise UsageError(f"{folder / name}: has values that are too large for {dtype}; pack with float32")
        exact = str(all((a == b).all() for a, b in zip(arrays, stored, strict=True))).lower()
        tables: Arrays = {
            "begins": np.cumsum([0, *map(len, stored)], dtype=np.int64),
            "checksums": np.array([xxhash.xxh3_64_intdigest(rows.tobytes()) for rows in stored], np.uint64),
            "sources": np.array(sources, np.int64).reshape(-1, 2),
            "names": np.frombuffer(os.fsencode("\0".join(names)), np.uint8),
        }
        tables_digest = digest(tables, exact)
        draft = path.with_suffix(".draft")
        save_file({**tables, "features": np.concatenate(stored)}, draft, {"tables": tables_digest, "exact": exact})
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        shard = Shard.open(draft)
        for index, rows in enumerate(stored):
            if not np.array_equal(shard.read(index), rows):
                raise UsageError(f"{draft}: {names[index]} is not what was written; check the disk")
        listing = list_folder(folder)
        if changed := [n for n, s in zip(names, sources, strict=True) if listing.get(n, (0, 0, 0))[:2] != tuple(s)]:
            raise UsageError(f"{folder / changed[0]}: changed while it was being packed; pack again")
        draft.replace(path)
    except UsageError as fault:
        return str(fault)
    except OSError as error:
        return f"{path}: cannot be written ({error.strerror or error}); make room, and pack again: it will go on"
    return ""


def _finish(folder: Path, kind: Kind, dtype: str, paths: Sequence[Path]) -> bool:
    """Write the index and put the new pack in the place of an earlier one; return whether its values are exact."""
    draft, target = folder / DRAFT, folder / FOLDER
    shards = [Shard.open(path) for path in paths]
    if len({shard.features.shape[1] for shard in shards}) > 1:
        raise UsageError(f"{folder}: features of different numbers of columns; a suite needs one kind of features")
    for path in draft.iterdir():
        if path not in paths:
            path.unlink()
    content: dict[str, object] = {
        "edition": EDITION,
        "kind": kind,
        "dtype": dtype,
        "shards": [{"name": s.path.name, "tables": s.tables_digest} for s in shards],
    }
    write_json(draft / INDEX, content | {"digest": index_digest(content)})
    earlier = folder / f"{DRAFT}-replaced"
    shutil.rmtree(earlier, ignore_errors=True)
    if os.path.lexists(target):
        target.rename(earlier)
    draft.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)
    return all(shard.is_exact for shard in shards)
