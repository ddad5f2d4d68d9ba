"""Claims: who works on a run. A claim is a file that only one process can create."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.records import explained

CLOCK_SECONDS = 5.0  # by how much the start time of one process, read twice, may differ


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Try to claim the run whose claim file is ``path``; yield whether it is ours, and give it back at the end.

    The claim of a process of this host that is dead is taken over; one of another host is respected.
    """
    mine = _create(path) or _take_over(path)
    try:
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)


def _create(path: Path) -> bool:
    """Create the claim with its content in one step, which fails where there is one."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
        draft.write_text(json.dumps(owner()), encoding="utf-8")
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True


def owner() -> dict[str, Any]:
    """Describe this process so that another can tell whether it lives: host, pid and start time."""
    return {"host": platform.node(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def holder(path: Path) -> dict[str, Any] | None:
    """Return who made the claim, or None where there is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return {"host": str(held["host"]), "pid": int(held["pid"]), "started": float(held["started"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return {"host": "unknown", "pid": 0, "started": 0.0}  # unreadable: respected, as another host's


def is_dead(held: dict[str, Any]) -> bool:
    """Return whether the process that made a claim ran on this host and is gone."""
    if held["host"] != platform.node():
        return False
    try:
        process = psutil.Process(held["pid"])
        same = abs(process.create_time() - held["started"]) < CLOCK_SECONDS
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _take_over(path: Path) -> bool:
    """Replace a dead process's claim by ours. The lock lets one process of this host look and replace at a time."""
    with explained(path), path.parent.with_name(".claims.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = holder(path)
        if held is not None and not is_dead(held):
            return False
        path.unlink(missing_ok=True)
        return _create(path)


def is_claimed(path: Path) -> bool:
    """Return whether a living process, or one of another host, works on the run."""
    held = holder(path)
    return held is not None and not is_dead(held)
