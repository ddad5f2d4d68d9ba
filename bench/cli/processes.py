"""The command line in one of several processes, as ``torchrun`` or a job of Slurm starts them."""

import os
import sys
from collections.abc import Callable, Sequence

from bench.errors import UsageError

SHARED_VERBS = ("sweep", "ablate", "tune", "run", "work")  # what executes runs
LOST = 130  # exit code of a process whose group has lost another one: interrupted


def are_several() -> bool:
    """Return whether the environment says that this is one of several processes."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def check_executor(name: str) -> None:
    """Raise UsageError where this is one of several processes and the executor starts processes of its own."""
    if are_several() and name != "inline":
        raise UsageError(f"--executor {name}: starts processes of its own; processes of torchrun go with inline")


def perform_together(words: Sequence[str], perform: Callable[[], int]) -> int:
    """Perform a verb in the first process while the others follow it through its runs; return the exit code.

    A verb that executes no runs is performed by the first process, and the others do nothing. Where another process
    has died this one ends at once, without waiting for a GPU that still waits for the other.
    """
    if not words or words[0] not in SHARED_VERBS:
        return perform() if os.environ.get("RANK", "0") == "0" else 0
    from bench.follow import follow
    from bench.parallel import PeerLost, join

    try:
        group = join()
    except UsageError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    code = 1
    try:
        try:
            code = perform() if group.leads else follow(group)
        finally:
            if group.lost is None:
                group.leave(code)
    except PeerLost:
        code = LOST
    if group.lost is not None:
        print(f"error: process {group.rank}: {group.lost}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
