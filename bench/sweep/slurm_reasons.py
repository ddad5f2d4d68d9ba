"""Why a job waits, in Slurm's words, and what would help where it does not pass by itself."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class WaitingReason:
    """A reason for which jobs wait until somebody does something.

    Attributes:
        pattern: of the reason as squeue prints it.
        advice: what would help; ``{jobs}`` are the ids of the jobs.
        after_launch: whether Slurm holds the job because it could not be launched, which may go well on another node.
    """

    pattern: re.Pattern[str]
    advice: str
    after_launch: bool = False


def _reason(pattern: str, advice: str, *, after_launch: bool = False) -> WaitingReason:
    return WaitingReason(re.compile(pattern, re.IGNORECASE), advice, after_launch)


#: The first that matches counts. A reason that matches none, such as Priority or Resources, passes by itself.
REASONS = (
    _reason(
        r"launch[ _]*fail",
        "a node could not launch them (its spool folder, its prolog): `sinfo -R` lists nodes with faults, `exclude` in"
        " the profile keeps off one; when it is mended: scontrol release {jobs}",
        after_launch=True,
    ),
    _reason(r"held|hold", "they are held: scontrol release {jobs}"),
    _reason(
        r"Max(Submit)?Jobs?(Per\w+|Limit)|MaxSubmit|MaxWallDuration|Grp\w+Limit|GrpTRES|MaxTRES|MaxCpu|MaxGRES|MaxNode",
        "a limit of your account or QoS: they begin when other jobs have ended, or ask for less or another qos in the"
        " profile (sacctmgr show qos)",
    ),
    _reason(
        r"DOWN|DRAIN|ReqNodeNotAvail|UnavailableNodes|NodeDown",
        "nodes are down or drained: `sinfo -R` says why; they begin when such a node is back, or name another partition"
        " or nodelist in the profile",
    ),
    _reason(
        r"Partition(Down|Inactive|TimeLimit|NodeLimit|Config)|InvalidAccount|InvalidQOS|AccountNotAllowed|"
        r"QOSNotAllowed|BadConstraints|AccountingPolicy|NotAllowed|Reservation(Deleted|Invalid)",
        "Slurm will not start them as they are: change the profile, `cancel` the runs and type the sweep again",
    ),
    _reason(
        r"DependencyNeverSatisfied",
        "what they wait for has failed: `scancel {jobs}`, then type the sweep again",
    ),
    _reason(r"Licenses?$", "they wait for a licence: `scontrol show lic`"),
)


def explain(reason: str) -> WaitingReason | None:
    """Return what is to be done about a reason, None where it passes by itself.

    >>> explain("Priority") is None, explain("launch failed requeued held").after_launch
    (True, True)
    """
    return next((item for item in REASONS if item.pattern.search(reason)), None)


def describe(reason: str, jobs: list[str], most: int = 4) -> str:
    """Return a reason with what would help for the jobs that have it; the reason alone where it passes by itself.

    >>> describe("JobHeldUser", ["7_0"])
    'JobHeldUser; they are held: scontrol release 7_0'
    """
    waiting = explain(reason)
    if waiting is None:
        return reason
    names = ",".join(jobs[:most]) + (",..." if len(jobs) > most else "")
    return f"{reason}; {waiting.advice.format(jobs=names)}"
