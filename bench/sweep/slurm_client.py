"""What was submitted to Slurm, and what Slurm answers about it; where it is down or absent there is no answer."""

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
    """Slurm does not answer at the moment."""


class SlurmSubmission(ExtensibleModel):
    """One job array that a sweep has submitted.

    Attributes:
        number: counts the submissions of a results folder.
        name: the name of its jobs in Slurm. No other submission has it, whereas job ids are used again.
        sweep, command: the name of the sweep, and the command line that submitted it.
        submitted: time in ISO 8601, UTC.
        jobs: job id -> run id -> number of attempts that the run had made before.
        report: the id of the job that collects the results, if there is one.
        conf: Slurm's configuration file, where it is not the system's.
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
    """The job of the last submission of a run, and how many attempts the run had made before it."""

    submission: SlurmSubmission
    id: str
    attempts_before: int


def submissions_folder(results: Path) -> Path:
    return results / "slurm"


def submissions(results: Path) -> list[SlurmSubmission]:
    """Return the submissions of a results folder, oldest first. Files that cannot be read are left out."""
    readable = []
    for path in submissions_folder(results).glob("*/submission.json"):
        try:
            readable.append(SlurmSubmission.model_validate(json.loads(path.read_bytes())))
        except (OSError, ValueError):
            continue
    return sorted(readable, key=lambda submission: submission.number)


def submitted_jobs(results: Path) -> dict[str, SubmittedJob]:
    """Return the job to which each run was submitted last, by the id of the run."""
    return {
        run: SubmittedJob(submission, job, count)
        for submission in submissions(results)
        for job, runs in submission.jobs.items()
        for run, count in runs.items()
    }


def missing_commands() -> list[str]:
    """Return the commands of Slurm that this machine lacks."""
    return [name for name in COMMANDS if shutil.which(name) is None]


def require() -> None:
    """Check that this machine has a Slurm that answers.

    Raises:
        UsageError: it has not; the message says what is missing and what to try.
    """
    hint = 'for a Slurm on this machine: slurm/dev-cluster up 4, then eval "$(slurm/dev-cluster env)"'
    if lacking := missing_commands():
        raise UsageError(f"--executor slurm: no {', '.join(lacking)} on this machine; {hint}; or use --executor local")
    if (answer := _output("sinfo", "--noheader")) is None:
        raise UsageError(f"--executor slurm: Slurm does not answer here (try sinfo); {hint}; or use --executor local")
    if not answer.strip():
        raise UsageError("--executor slurm: this Slurm has no partition (try sinfo)")


def queued_jobs(submissions: Iterable[SlurmSubmission]) -> dict[str, QueuedJob] | None:
    """Return the jobs of these submissions that wait or run, by their ids; None where Slurm does not answer."""
    names: dict[str | None, set[str]] = {}
    for submission in submissions:
        names.setdefault(submission.conf, set()).add(submission.name)
    jobs: dict[str, QueuedJob] = {}
    for conf, job_names in names.items():
        words = ("--noheader", "--array", "--all", f"--name={','.join(sorted(job_names))}", "--format=%i|%T|%r|%N")
        if (answer := _output("squeue", *words, conf=conf)) is None:
            return None
        rows = [line.strip().split("|", 3) for line in answer.splitlines() if line.count("|") == 3]
        jobs |= {row[0]: QueuedJob(*row) for row in rows}
    return jobs


def accounted_states(jobs: Iterable[SubmittedJob]) -> dict[str, str]:
    """Return the states of jobs in Slurm's accounting (FAILED, CANCELLED, TIMEOUT, ...); {} where there is none."""
    arrays: dict[str | None, set[str]] = {}
    for job in jobs:
        arrays.setdefault(job.submission.conf, set()).add(job.id.partition("_")[0])
    states: dict[str, str] = {}
    for conf, ids in arrays.items():
        words = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={','.join(ids)}")
        answer = _output("sacct", *words, conf=conf) or ""
        for job_ids, state in (line.split("|") for line in answer.splitlines() if "|" in line):
            if state:  # "CANCELLED by 1000" names the user
                states |= dict.fromkeys(expand_job_ids(job_ids), state.split()[0])
    return states


def expand_job_ids(ids: str) -> list[str]:
    """Return the single job ids of what Slurm prints for several jobs of an array.

    >>> expand_job_ids("7_[0-2,5%4]"), expand_job_ids("7_3"), expand_job_ids("8")
    (['7_0', '7_1', '7_2', '7_5'], ['7_3'], ['8'])
    """
    array, bracket, rest = ids.partition("_[")
    if not bracket:
        return [ids]
    ranges = [part.partition("-") for part in rest.rstrip("]").partition("%")[0].split(",")]
    return [f"{array}_{i}" for first, _, last in ranges for i in range(int(first), int(last or first) + 1)]


def cancel(ids: Collection[str], conf: str | None) -> None:
    """Remove jobs from the queue, whether they wait or run."""
    if ids:
        _output("scancel", *sorted(ids), conf=conf)


def config_number(name: str) -> int | None:
    """Return a number from Slurm's configuration; None where Slurm does not answer or has no such number."""
    for line in (_output("scontrol", "show", "config") or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name and value.strip().isdigit():
            return int(value)
    return None


def _output(*words: str, conf: str | None = None) -> str | None:
    """Return what a command of Slurm prints; None if it fails or does not end in time."""
    env = os.environ | ({"SLURM_CONF": conf} if conf else {})
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS, env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
