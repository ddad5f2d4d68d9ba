"""The states of a run, the causes of a failure, and the policies that decide whether a failed run is tried again.

Everything that shows or compares states reads these tables: plans, overviews, reports and the executors. The module
imports nothing, so that any of them may import it.
"""

from dataclasses import dataclass
from typing import Literal

StateName = Literal[
    "done",
    "failed",
    "parked",
    "cancelled",
    "running",
    "interrupted",
    "corrupt",
    "unreadable",
    "stale",
    "missing",
    "queued",
    "preempted",
    "unsupported",
    "blocked",
]
CauseName = Literal["oom", "nan", "timeout", "interrupted", "error", "unsupported"]
SurroundingName = Literal["disk", "permission", "file", "memory", "device", "program", "input"]
RetryName = Literal["never", "until-parked"]


@dataclass(frozen=True)
class StateInfo:
    """What a state means to a sweep and how it is shown.

    Attributes:
        name: the state, as overviews and JSON name it.
        settled: whether a sweep leaves the run alone. A failed run may be tried again nevertheless: see
            :class:`RetryPolicy`.
        plan: its word in a plan, in which everything that is not finished is "to run".
        color: its colour on a terminal, as rich names it; empty for the terminal's own.
    """

    name: StateName
    settled: bool
    plan: str
    color: str = ""


#: In the order in which an overview lists them: what is happening first, what is finished last.
STATES: dict[str, StateInfo] = {
    info.name: info
    for info in (
        StateInfo("running", settled=False, plan="running", color="cyan"),
        StateInfo("preempted", settled=False, plan="to run", color="yellow"),
        StateInfo("failed", settled=True, plan="failed", color="red"),
        StateInfo("parked", settled=True, plan="failed", color="red"),
        StateInfo("queued", settled=False, plan="to run", color="blue"),
        StateInfo("interrupted", settled=False, plan="to run"),
        StateInfo("missing", settled=False, plan="to run"),
        StateInfo("corrupt", settled=False, plan="to run"),
        StateInfo("stale", settled=False, plan="to run", color="yellow"),
        StateInfo("unreadable", settled=True, plan="unreadable", color="red"),
        StateInfo("blocked", settled=True, plan="blocked"),
        StateInfo("cancelled", settled=True, plan="to run"),
        StateInfo("unsupported", settled=True, plan="unsupported"),
        StateInfo("done", settled=True, plan="cached", color="green"),
    )
}


@dataclass(frozen=True)
class CauseInfo:
    """Why a run failed: the ``code`` that tables print instead of a score, and whether another attempt must fail too.

    A run that stopped because its loss was not finite, or whose method does not support its backbone, fails in every
    attempt (``final``). Memory, time and files depend on what else the machine does.
    """

    name: CauseName
    code: str
    final: bool = False


CAUSES: dict[str, CauseInfo] = {
    info.name: info
    for info in (
        CauseInfo("oom", code="OOM"),
        CauseInfo("nan", code="NaN", final=True),
        CauseInfo("timeout", code="timeout"),
        CauseInfo("interrupted", code="interrupted"),
        CauseInfo("error", code="error"),
        CauseInfo("unsupported", code="unsupported", final=True),
    )
}


@dataclass(frozen=True)
class SurroundingInfo:
    """What keeps a run from going on without being a result of it: the run is *interrupted*, never failed or parked.

    ``text`` says what is the matter, ``mend`` what to do about it.
    """

    name: SurroundingName
    text: str
    mend: str


SURROUNDINGS: dict[str, SurroundingInfo] = {
    info.name: info
    for info in (
        SurroundingInfo("disk", "the disk is full", "make room"),
        SurroundingInfo("permission", "not permitted", "have its owner permit it (chmod g+rwX)"),
        SurroundingInfo("file", "a file cannot be read or written", "bring it back"),
        SurroundingInfo("memory", "out of memory outside of training", "free some, or --set eval_batch_size=N smaller"),
        SurroundingInfo("device", "the device does not work", "mend it, or choose another with --device"),
        SurroundingInfo("program", "a program does not run here", "install it"),
        SurroundingInfo("input", "bad input", "mend it"),
    )
}

#: A run that has failed so many times in the same way is parked: no policy tries it again, only ``retry`` and
#: ``--retry-failed`` begin it anew. Interruptions, by a person, by Slurm or by the surroundings, do not count.
FAILURES_UNTIL_PARKED = 2


@dataclass(frozen=True)
class RetryPolicy:
    """Whether a sweep tries failed runs again by itself; the same for every executor.

    ``never`` leaves a failed run as it is. ``until-parked`` tries it again until it has failed twice in the same way,
    but not at all after a final cause. Neither concerns attempts that were interrupted, whatever by, or killed: these
    always go on from their last checkpoint.
    """

    name: RetryName
    tries_again: bool

    def is_settled(self, state: str, cause: str = "") -> bool:
        """Return whether a sweep leaves a run in this state alone; ``cause`` is that of a failure."""
        if state == "failed" and self.tries_again:
            return cause in CAUSES and CAUSES[cause].final
        return STATES[state].settled


NEVER = RetryPolicy("never", tries_again=False)
UNTIL_PARKED = RetryPolicy("until-parked", tries_again=True)
RETRY_POLICIES: dict[str, RetryPolicy] = {policy.name: policy for policy in (UNTIL_PARKED, NEVER)}
#: A sweep of hundreds of runs meets full disks and memory that another job holds; one more attempt at a run costs less
#: than a sweep that has to be typed again. What fails for good does so twice and is parked.
DEFAULT_RETRY = UNTIL_PARKED
