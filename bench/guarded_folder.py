"""A folder whose files only the process that holds it can change, even one that was stopped for a long time.

Between the check that a run is still this process's and the write that follows, the process may be stopped, and another
may take the run over. So every change is a rename from or into the hold's folder of drafts, which the next owner takes
away before it looks at anything: the rename of a former owner fails, and what it has written stays in its draft.
"""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.events import RunHold
from bench.files import atomic_write, create_once, draft_of, json_bytes, read_bytes

ASIDE = re.compile("attempt-([1-9][0-9]{0,17})")  # the folder of an earlier attempt that was put aside
STAGING = "aside."  # begins the name of such a folder in the making


class GuardedFolder:
    """The folder ``path`` and the ``hold`` that this process has on it.

    All methods that change something raise :class:`~bench.events.OwnershipLost`, and change nothing, where another
    process has taken the folder over, and OSError where the file system refuses.
    """

    def __init__(self, path: Path, hold: RunHold | None = None) -> None:
        self.path = path
        self.hold = hold or RunHold()

    def check(self) -> None:
        """Raise OwnershipLost where another process has taken the folder over, as far as this one has noticed."""
        self.hold.check()

    @contextmanager
    def writing(self, path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
        """Open a file for writing, as :func:`bench.files.atomic_write` does."""
        with self._guarded(path), atomic_write(path, durable=durable, drafts=self.hold.drafts) as file:
            yield file

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Yield the path of a draft for what writes a file by its name; at the end the draft becomes ``path``."""
        draft = draft_of(path, self.hold.drafts)
        with self._guarded(path):
            try:
                yield draft
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)

    def write(self, path: Path, content: bytes, *, durable: bool = True) -> None:
        """Replace the content of a file."""
        with self.writing(path, durable=durable) as file:
            file.write(content)

    def create(self, path: Path, content: bytes) -> bool:
        """Create a file; return False where there is one already (:func:`bench.files.create_once`)."""
        with self._guarded(path):
            return create_once(path, content, drafts=self.hold.drafts)

    def write_json(self, path: Path, content: Any, *, durable: bool = True) -> None:
        """Replace a file by indented JSON."""
        self.write(path, json_bytes(content), durable=durable)

    def append_line(self, path: Path, row: dict[str, Any]) -> None:
        """Append one JSON line to a small file, on a line of its own even where a crash has torn the last one.

        The file is written anew, because a write at the end of a file cannot be taken back.
        """
        try:
            content = read_bytes(path)
        except FileNotFoundError:
            content = b""
        ending = b"\n" if content and not content.endswith(b"\n") else b""
        self.write(path, content + ending + json.dumps(row).encode() + b"\n", durable=False)

    def remove(self, path: Path) -> None:
        """Remove a file that may be there."""
        with self._guarded(path):
            removed = draft_of(path, self.hold.drafts)
            if os.path.lexists(path):
                path.rename(removed)
                removed.unlink()

    def put_aside(self, keep: Iterable[Path], last: Path) -> Path:
        """Move all files into ``attempt-N``, so that nothing is overwritten, and return that folder.

        Args:
            keep: what stays, beside earlier attempts.
            last: what is moved last: while it is there, somebody who goes on from a crash begins again.
        """
        with self._guarded(self.path):
            staging = (self.hold.drafts or self.path) / f"{STAGING}{uuid.uuid4().hex[:12]}"
            staging.mkdir()
            stays = {*keep, staging}
            items = [item for item in self.path.iterdir() if item not in stays and not is_aside(item)]
            for item in sorted(items, key=lambda item: item == last):
                item.rename(staging / item.name)
            return publish_aside(staging, self.path)

    @contextmanager
    def _guarded(self, path: Path) -> Iterator[None]:
        self.check()
        try:
            yield
        except OSError as error:
            self.hold.verify()  # the folder of drafts has gone: that is why
            if error.filename is None:  # as where a disk is full
                error.filename = str(path)
            raise


def is_aside(path: Path) -> bool:
    """Return whether a path in a run directory is that of an attempt that was put aside, or a copy of one."""
    return path.name.startswith(("attempt-", STAGING))


def publish_aside(staging: Path, folder: Path) -> Path:
    """Give a folder of files that were put aside its place, the next ``attempt-N``; return that."""
    numbers = [int(match[1]) for name in os.listdir(folder) if (match := ASIDE.fullmatch(name))]
    aside = folder / f"attempt-{max(numbers, default=0) + 1}"
    staging.rename(aside)
    return aside


def remove_drafts(drafts: Path, folder: Path) -> None:
    """Remove the drafts of a former owner of ``folder``; what it was putting aside gets its place there.

    Raises:
        OSError: not all of it can be removed, or there is no such folder.
    """
    for item in list(drafts.iterdir()):
        if item.name.startswith(STAGING) and any(item.iterdir()):
            publish_aside(item, folder)
        elif item.is_dir() and not item.is_symlink():
            remove_drafts(item, folder)
        else:
            item.unlink(missing_ok=True)
    drafts.rmdir()
