"""Feature files that were read and found right, remembered in the cache folder until they change.

Every feature folder has a file of lines ``name, size, mtime, ctime, rows, columns``, to which a check appends while it
goes on: one that is interrupted loses the last lines at most.
"""

import functools
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from bench.data import feature_files
from bench.data.roots import cache_folder

FileStatus = tuple[int, int, int]  # size, mtime and ctime in ns
FLUSHED_EVERY = 500  # files


class VerifiedFeatures:
    """The files of one feature folder that were verified. A cache that cannot be read or written is an empty one.

    An entry counts as long as the file's size and times, and the code that verifies files, are the same.
    """

    def __init__(self, folder: Path) -> None:
        key = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
        self._path = cache_folder() / "features" / f"{key[:20]}-{_code()}.tsv"
        self._entries: dict[str, tuple[FileStatus, tuple[int, int]]] = {}
        self._new: list[str] = []
        with suppress(OSError):
            for line in self._path.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
                name, *numbers = line.split("\t")
                with suppress(ValueError):  # a torn line
                    size, mtime, ctime, rows, columns = map(int, numbers)
                    self._entries[name] = (size, mtime, ctime), (rows, columns)

    def get(self, name: str, status: FileStatus) -> tuple[int, int] | None:
        """Return the numbers of rows and columns of a file with this status; None where it was not verified."""
        verified, shape = self._entries.get(name, ((-1, -1, -1), (0, 0)))
        return shape if verified == status else None

    def put(self, name: str, status: FileStatus, shape: tuple[int, int]) -> None:
        """Remember a file that was verified."""
        self._entries[name] = status, shape
        if not set(name) & {"\t", "\n"}:
            self._new.append("\t".join([name, *map(str, (*status, *shape))]))
        if len(self._new) >= FLUSHED_EVERY:
            self.flush()

    def flush(self) -> None:
        """Append what is new to the cache."""
        if self._new:
            text = "\n".join(["", *self._new, ""])
            self._new = []
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as file:
                    file.write(text.encode("utf-8", "surrogateescape"))


@functools.lru_cache
def _code() -> str:
    """Return a digest of the code that verifies a feature file."""
    return hashlib.sha256(Path(feature_files.__file__).read_bytes()).hexdigest()[:8]
