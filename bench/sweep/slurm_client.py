"""What was submitted, and what Slurm says of it. Slurm may be down, or not be there at all: then it says nothing."""

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.record_schema import ExtensibleModel

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
ANSWER_SECONDS = 30  # squeue itself tries for some time to reach its controller


class SlurmUnavailable(UsageError):
    """Slurm does not answer just now."""


class SlurmSubmission(ExtensibleModel):
    """What one call of a sweep has submitted: for every job, its runs and how many attempts each had made before.

    ``number`` counts the submissions of a results folder. ``name`` is the name of the jobs in Slurm; no other
    submission has it, whereas job ids come again. ``conf`` is Slurm's configuration, where it is not the system's.
    """

    number: int
    name: str
    sweep: str
    command: str
    submitted: str
    jobs: dict[str, dict[str, int]]
    report: str | None = None
    conf: str | None = None


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue, as squeue prints it; ``reason`` is why it waits."""

    id: str
    state: str
    reason: str
    node: str


@dataclass(frozen=True)
class SubmittedJob:
    """Where a run was submitted last."""

    submission: SlurmSubmission
    job: str
    attempts: int


def folder(results: Path) -> Path:
    """Return the folder of the submissions made for a results folder."""
    return results / "slurm"


def submissions(results: Path) -> list[SlurmSubmission]:
    """Return what was submitted, the oldest first; what cannot be read is left out."""
    found = []
    for path in folder(results).glob("*/submission.json"):
        try:
            found.append(SlurmSubmission.model_validate(json.loads(path.read_bytes())))
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda one: one.number)


def places(results: Path) -> dict[str, SubmittedJob]:
    """Return where every run was submitted last."""
    found: dict[str, SubmittedJob] = {}
    for submission in submissions(results):
        for job, runs in submission.jobs.items():
            found |= {run: SubmittedJob(submission, job, attempts) for run, attempts in runs.items()}
    return found


def missing() -> list[str]:
    """Return the commands of Slurm that are not here."""
    return [name for name in COMMANDS if shutil.which(name) is None]


def require() -> None:
    """Raise UsageError where this machine has no Slurm, or none that answers."""
    hint = 'for a Slurm on this machine: slurm/dev-cluster up 4, then eval "$(slurm/dev-cluster env)"'
    if gone := missing():
        raise UsageError(f"--executor slurm: no {', '.join(gone)} on this machine; {hint}; or use --executor local")
    if (said := _ask("sinfo", "--noheader")) is None:
        raise UsageError(f"--executor slurm: Slurm does not answer here (try sinfo); {hint}; or use --executor local")
    if not said.strip():
        raise UsageError("--executor slurm: this Slurm has no partition (try sinfo)")


def queued(where: Iterable[SlurmSubmission]) -> dict[str, QueuedJob] | None:
    """Return the jobs of these submissions that are in the queue, by id; None where Slurm does not answer."""
    names: dict[str | None, set[str]] = {}
    for submission in where:
        names.setdefault(submission.conf, set()).add(submission.name)
    found: dict[str, QueuedJob] = {}
    for conf, some in names.items():
        words = ("--noheader", "--array", "--all", f"--name={','.join(sorted(some))}", "--format=%i|%T|%r|%N")
        if (said := _ask("squeue", *words, conf=conf)) is None:
            return None
        jobs = [QueuedJob(*line.strip().split("|", 3)) for line in said.splitlines() if line.count("|") == 3]
        found |= {job.id: job for job in jobs}
    return found


def endings(where: Iterable[SubmittedJob]) -> dict[str, str]:
    """Return what Slurm's accounting says of jobs, as far as there is one: FAILED, CANCELLED, TIMEOUT, ..."""
    found: dict[str, str] = {}
    jobs: dict[str | None, set[str]] = {}
    for place in where:
        jobs.setdefault(place.submission.conf, set()).add(place.job.partition("_")[0])
    for conf, arrays in jobs.items():
        words = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={','.join(arrays)}")
        rows = [line.split("|") for line in (_ask("sacct", *words, conf=conf) or "").splitlines() if "|" in line]
        found |= {job: state.split()[0] for ids, state in rows if state for job in elements(ids)}
    return found


def elements(ids: str) -> list[str]:
    """Return the jobs that Slurm writes as one.

    >>> elements("7_[0-2,5%4]"), elements("7_3"), elements("8")
    (['7_0', '7_1', '7_2', '7_5'], ['7_3'], ['8'])
    """
    array, bracket, rest = ids.partition("_[")
    if not bracket:
        return [ids]
    ranges = [part.partition("-") for part in rest.rstrip("]").partition("%")[0].split(",")]
    return [f"{array}_{i}" for first, _, last in ranges for i in range(int(first), int(last or first) + 1)]


def cancel(ids: Collection[str], conf: str | None) -> None:
    """Take jobs out of the queue, running or not."""
    if ids:
        _ask("scancel", *sorted(ids), conf=conf)


def setting(name: str) -> int | None:
    """Return a number from Slurm's configuration; None where it does not tell."""
    for line in (_ask("scontrol", "show", "config") or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name and value.strip().isdigit():
            return int(value)
    return None


def _ask(*words: str, conf: str | None = None) -> str | None:
    env = os.environ | ({"SLURM_CONF": conf} if conf else {})
    try:
        asked = subprocess.run(words, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS, env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout
