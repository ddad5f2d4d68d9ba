"""What the check of a data root has found right, remembered in the cache folder until a file changes."""

import functools
import hashlib
import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.data.feature_inspection import Listing, signature
from bench.data.roots import cache_folder
from bench.files import parse_json, write_json
from bench.suites import Suite
from bench.tasks import Task

KEPT = 200  # roots whose reports are kept, the latest
SOURCES = ("tasks", "data")  # packages whose code decides what is right


class CheckCache:
    """The reports of one suite of one data root. A cache that cannot be read or written is an empty one.

    An entry counts as long as the names, sizes and times of the suite's annotation files and of all files in the
    split's feature folders are the same, and the code of the check and of the task, too.
    """

    def __init__(self, root: Path, suite: Suite) -> None:
        key = hashlib.sha256(f"{root.resolve()}\0{suite.name}".encode("utf-8", "surrogateescape")).hexdigest()
        self._path = cache_folder() / "checks" / f"{key[:20]}.json"
        self._annotations = signature(_annotations(root, suite))
        self._entries: dict[str, Any] = {}
        self._changed = False
        with suppress(OSError, ValueError):
            content = parse_json(self._path.read_bytes())
            self._entries = content if isinstance(content, dict) else {}

    def get(self, task: Task, split: str, listing: Callable[[str], Listing]) -> dict[str, Any] | None:
        """Return the fields of the report on a split; None where there is none or a file has changed since.

        ``listing`` returns what is in a feature folder now.
        """
        entry = self._entries.get(f"{task.name}/{split}")
        try:
            if entry is not None and entry["signature"] == self._signature(task, entry["folders"], listing):
                return dict(entry["report"])
        except (KeyError, TypeError, ValueError):  # not what :meth:`put` wrote
            return None
        return None

    def put(self, task: Task, split: str, report: Any, folders: list[str], listing: Callable[[str], Listing]) -> None:
        """Remember a report, a dataclass, on a split whose features are in the given folders."""
        entry = {
            "signature": self._signature(task, folders, listing),
            "folders": folders,
            "report": asdict(report),
        }
        self._entries[f"{task.name}/{split}"] = entry
        self._changed = True

    def save(self) -> None:
        """Write the cache where something new was put into it."""
        if self._changed:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._path, self._entries, durable=False)
                files = sorted(self._path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
                for path in files[:-KEPT]:
                    path.unlink(missing_ok=True)

    def _signature(self, task: Task, folders: list[str], listing: Callable[[str], Listing]) -> str:
        parts = [
            self._annotations,
            code_digest(task),
            *(f"{folder}\0{signature(listing(folder))}" for folder in folders),
        ]
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _annotations(root: Path, suite: Suite) -> Listing:
    """Return size and times of the annotation files of a suite, by path."""
    listing: Listing = {}
    for pattern in suite.annotations:
        for path in root.glob(pattern):
            with suppress(OSError):
                status = path.stat()
                listing[str(path.relative_to(root))] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return listing


@functools.lru_cache
def code_digest(task: Task) -> str:
    """Return a digest of the code that reads a task and checks what was read."""
    package = Path(__file__).parents[1]
    files = {path for name in SOURCES for path in (package / name).glob("*.py")}
    read: Any = task.read
    source = inspect.getsourcefile(inspect.unwrap(getattr(read, "func", read)))
    if source:
        files.add(Path(source))
    digest = hashlib.sha256(f"{task.name} {task.version}".encode())
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()
