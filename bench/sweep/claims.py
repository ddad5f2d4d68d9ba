"""Claims: who works on a run. A claim is a file that only one process can create."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.records import explained


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Try to claim the run whose claim file is ``path``; yield whether it is ours, and give it back at the end.

    The claim of a process of this host that is dead is taken over; one of another host is respected.
    """
    mine = _create(path) or (_is_stale(path) and _take_over(path))
    try:
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)


def _create(path: Path) -> bool:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(owner(), file)
        return True


def owner() -> dict[str, object]:
    """Describe this process so that another can tell whether it lives: host, pid and start time."""
    return {"host": platform.node(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _is_stale(path: Path) -> bool:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["host"] != platform.node():
            return False
        return psutil.Process(held["pid"]).create_time() != held["started"]
    except psutil.NoSuchProcess:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False  # being written, or just given back


def _take_over(path: Path) -> bool:
    """Remove a dead process's claim and create ours; renaming first lets only one of several do so."""
    grave = path.with_name(f".{path.name}.{os.getpid()}.stale")
    try:
        path.rename(grave)
    except OSError:
        return False
    grave.unlink(missing_ok=True)
    return _create(path)


def is_claimed(path: Path) -> bool:
    """Return whether a living process, or one of another host, works on the run."""
    return path.exists() and not _is_stale(path)
