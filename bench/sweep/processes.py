"""Whether a process of this host is alive, judged by what no step of the clock moves."""

import os
from pathlib import Path

import psutil


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the machine did; None where there is no such process.

    The start time in seconds since the epoch, which tools print, is computed from the present time and moves with every
    step of the clock.
    """
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
        return int(content.rpartition(b")")[2].split()[19])  # the name before it may hold anything
    except (OSError, ValueError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # systems without /proc keep the start time itself
        return int(psutil.Process(pid).create_time() * 1000)
    except psutil.Error:
        return None


def is_alive(pid: int, ticks: int) -> bool | None:
    """Return whether the process that started at ``ticks`` is alive; None where this host does not tell.

    ``ticks`` is what :func:`start_ticks` returned, -1 where it was not written down.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, ValueError):  # another person's, of which /proc may show nothing
        pass
    now = start_ticks(pid)
    if now is None or ticks < 0:
        return None
    return now == ticks and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
