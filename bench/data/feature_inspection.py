"""Looking at the feature files that the examples of a split need: are they there, can they be read, do they agree?"""

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.data import feature_files
from bench.data.columns import visual_files
from bench.data.extraction_manifest import checksum, checksums
from bench.data.feature_files import Kind
from bench.data.packs import FOLDER, INDEX, FeaturePack, PackFault, find_pack
from bench.data.verified_features import VerifiedFeatures
from bench.errors import UsageError
from bench.tasks import Example

FULL_BYTES = 4 << 30  # a split with features of up to this size is read as a whole before a run
SAMPLE = 1000  # of a larger one so many files are read, evenly spread; the others when they are loaded
CHUNK = 50  # files that a process reads at a time
LISTED = 5  # faulty files that an error names after the first
Progress = Callable[[int, int], None]  # files read, files to read
Outcome = tuple[str, tuple[int, int] | None, str]  # name, rows and columns, or what is wrong
Listing = dict[str, tuple[int, int, int]]  # size, mtime and ctime (ns) of the files of a folder, by name


@dataclass
class FeatureShapes:
    """The numbers of rows and of columns that the feature files of a split have, each with a file that has it.

    Attributes:
        rows: file by number of rows. Empty for frames, which may have any.
        columns: file by number of columns.
        folders: the folders of the files, relative to the data root.
        complete: whether every file was read, not only a sample.
    """

    rows: dict[int, str] = field(default_factory=dict)
    columns: dict[int, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    complete: bool = True


class FeatureInspector:
    """Inspects the feature files below a data root; what was verified before, and did not change, is not read again.

    Args:
        root: the data root.
        kind: the kind of features.
        jobs: the number of processes that read files.
    """

    def __init__(self, root: Path, kind: Kind, jobs: int = 1) -> None:
        self._root = root
        self._kind = kind
        self._jobs = jobs
        self._listings: dict[str, Listing] = {}
        self._verified: dict[str, VerifiedFeatures] = {}
        self._packs: dict[str, FeaturePack | None] = {}

    def inspect(self, examples: Sequence[Example], *, complete: bool, progress: Progress) -> FeatureShapes:
        """Look for every feature file of some examples, and read all of them or, if they are many, a sample.

        Args:
            examples: the examples.
            complete: whether all files are read whatever their size.
            progress: is called with the number of files that have been read, and of all that will be.

        Raises:
            UsageError: files are missing or have no features, or two differ that must agree; they are named.
        """
        names = visual_files(examples)
        folders = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        self._require(names)
        sizes = [self.listing(folder)[file][0] for folder, _, file in (name.rpartition("/") for name in names)]
        complete = complete or sum(sizes) <= FULL_BYTES
        chosen = names if complete else names[:: max(1, len(names) // SAMPLE)]
        shapes = FeatureShapes(folders=folders, complete=complete)
        faults: dict[str, str] = {}
        try:
            for number, (name, shape, fault) in enumerate(self._outcomes(chosen)):
                progress(number, len(chosen))
                if shape is None:
                    faults[name] = fault
                    continue
                shapes.columns.setdefault(shape[1], name)
                if self._kind == "grid":
                    shapes.rows.setdefault(shape[0], name)
        finally:
            for verified in self._verified.values():
                verified.flush()
        if faults:
            raise UsageError(_summary(faults))
        if fault := disagreement(self._root, [shapes]):
            raise UsageError(fault)
        return shapes

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of some files that are neither in their folder nor in its pack."""
        return [name for name in names if name.rpartition("/")[2] not in self.listing(name.rpartition("/")[0])]

    def _require(self, names: Iterable[str]) -> None:
        """Raise UsageError where a file is missing."""
        if missing := self.missing(names):
            others = f", like {len(missing) - 1} more of this split" if len(missing) > 1 else ""
            raise UsageError(f"{self._root / missing[0]}: no such feature file{others}; fetch or extract the features")

    def listing(self, folder: str) -> Listing:
        """Return what is in a folder and in its pack; nothing, where there is no such folder.

        Raises:
            UsageError: the pack is damaged, or a file has changed since it was packed.
        """
        if folder not in self._listings:
            listing = list_folder(self._root / folder)
            pack = self._packs[folder] = find_pack(self._root / folder)
            if pack is not None:
                pack.require_current(listing)
                listing = {name: (*source, 0) for name, source in pack.sources.items()} | listing
                listing[f"{FOLDER}/{INDEX}"] = list_folder(self._root / folder / FOLDER)[INDEX]
            self._listings[folder] = listing
        return self._listings[folder]

    def _outcomes(self, names: Sequence[str]) -> Iterator[Outcome]:
        """Yield what every file has in it, those that were verified before first."""
        unread = []
        for name in names:
            folder, _, file = name.rpartition("/")
            self.listing(folder)
            if (pack := self._packs[folder]) is not None and file in pack:
                yield _packed(pack, name, file)
                continue
            if folder not in self._verified:
                self._verified[folder] = VerifiedFeatures(self._root / folder)
            shape = self._verified[folder].get(file, self.listing(folder)[file])
            if shape is None:
                unread.append(name)
            else:
                yield name, shape, ""
        read = partial(_read, self._root, self._kind)
        chunks = [unread[at : at + CHUNK] for at in range(0, len(unread), CHUNK)]
        with process_map(min(self._jobs, len(chunks))) as mapped:
            for outcomes in mapped(read, chunks):
                for name, shape, fault in outcomes:
                    folder, _, file = name.rpartition("/")
                    if shape is not None:
                        self._verified[folder].put(file, self.listing(folder)[file], shape)
                    yield name, shape, fault


@contextmanager
def process_map(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Give a ``map`` whose calls are spread over processes where there are several; HDF5 knows no threads."""
    if jobs < 2:
        yield map
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of this process
    pool = ProcessPoolExecutor(jobs, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _packed(pack: FeaturePack, name: str, file: str) -> Outcome:
    """Verify the features of a packed file."""
    try:
        return name, pack.shape(file), ""
    except PackFault as fault:
        return name, None, str(fault)


def _read(root: Path, kind: Kind, names: Sequence[str]) -> list[Outcome]:
    """Read some feature files."""
    outcomes: list[Outcome] = []
    for name in names:
        path = root / name
        try:
            features = feature_files.read(path, kind)
            if (expected := checksums(path.parent).get(path.stem)) and checksum(features) != expected:
                raise UsageError(f"{path}: has not the features that were extracted; delete it and extract it again")
        except UsageError as fault:
            outcomes.append((name, None, str(fault)))
        else:
            outcomes.append((name, (features.shape[0], features.shape[1]), ""))
    return outcomes


def _summary(faults: dict[str, str]) -> str:
    """Return the first fault, and the names of the other faulty files."""
    first, *others = faults
    if not others:
        return faults[first]
    more = ", ..." if len(others) > LISTED else ""
    return f"{faults[first]}; {len(others)} more files of this split are faulty: {', '.join(others[:LISTED])}{more}"


def list_folder(folder: Path) -> Listing:
    """Return size and times of the files in a folder; nothing, where there is no such folder."""
    listing: Listing = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:  # a link that leads nowhere: reading it says so
                    listing[entry.name] = (0, 0, 0)
                else:
                    listing[entry.name] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError:
        return {}
    return listing


def signature(listing: Listing) -> str:
    """Return a digest of a listing, which changes whenever a file is added, removed or written."""
    lines = (f"{name}\0{status}" for name, status in sorted(listing.items()))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def disagreement(root: Path, shapes: Iterable[FeatureShapes]) -> str:
    """Say which two files differ in their number of columns, or of rows where that matters; "" where none do."""
    columns: dict[int, str] = {}
    rows: dict[int, str] = {}
    for part in shapes:
        for number, name in part.columns.items():
            columns.setdefault(number, name)
        for number, name in part.rows.items():
            rows.setdefault(number, name)
    for noun, files in (("columns", columns), ("tokens (rows)", rows)):
        if len(files) > 1:
            (first, name), (second, other) = list(files.items())[:2]
            return (
                f"{root / other}: features of {second} {noun}, but {name} has {first}; "
                "a suite needs one kind of features"
            )
    return ""
