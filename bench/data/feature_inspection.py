"""Looking at the feature files that the examples of a split need: are they there, can they be read, do they agree?"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.data import feature_files
from bench.data.feature_files import Kind
from bench.errors import UsageError
from bench.tasks import Example

FULL_BYTES = 4 << 30  # a split with features of up to this size is read as a whole before a run
SAMPLE = 1000  # of a larger one so many files are read, evenly spread; the others when they are loaded
Progress = Callable[[int, int], None]  # files read, files to read
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
    """Inspects the feature files below a data root; what several splits share is read once."""

    def __init__(self, root: Path, kind: Kind) -> None:
        self._root = root
        self._kind = kind
        self._listings: dict[str, Listing] = {}
        self._shapes: dict[str, tuple[int, int]] = {}

    def inspect(self, examples: Sequence[Example], *, complete: bool, progress: Progress) -> FeatureShapes:
        """Look for every feature file of some examples, and read all of them or, if they are many, a sample.

        Args:
            examples: the examples.
            complete: whether all files are read whatever their size.
            progress: is called with the number of files that have been read, and of all that will be.

        Raises:
            UsageError: a file is missing or has no features, or two differ that must agree; it is named.
        """
        names = list(dict.fromkeys(name for example in examples for name in example.visual))
        folders = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        self._require(names)
        sizes = [self.listing(folder)[file][0] for folder, _, file in (name.rpartition("/") for name in names)]
        complete = complete or sum(sizes) <= FULL_BYTES
        chosen = names if complete else names[:: max(1, len(names) // SAMPLE)]
        shapes = FeatureShapes(folders=folders, complete=complete)
        for number, name in enumerate(chosen):
            progress(number, len(chosen))
            rows, columns = self._shape(name)
            shapes.columns.setdefault(columns, name)
            if self._kind == "grid":
                shapes.rows.setdefault(rows, name)
        fault = disagreement(self._root, [shapes])
        if fault:
            raise UsageError(fault)
        return shapes

    def _require(self, names: Iterable[str]) -> None:
        """Raise UsageError where a file is not listed in its folder."""
        missing = [name for name in names if name.rpartition("/")[2] not in self.listing(name.rpartition("/")[0])]
        if missing:
            others = f", like {len(missing) - 1} more of this split" if len(missing) > 1 else ""
            raise UsageError(f"{self._root / missing[0]}: no such feature file{others}; fetch or extract the features")

    def listing(self, folder: str) -> Listing:
        """Return what is in a folder; nothing, where there is no such folder."""
        if folder not in self._listings:
            self._listings[folder] = list_folder(self._root / folder)
        return self._listings[folder]

    def _shape(self, name: str) -> tuple[int, int]:
        if name not in self._shapes:
            rows, columns = feature_files.read(self._root / name, self._kind).shape
            self._shapes[name] = (rows, columns)
        return self._shapes[name]


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
