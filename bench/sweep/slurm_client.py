"""What was submitted to Slurm, and what Slurm answers about it; where it is down or absent there is no answer."""

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bench.errors import UsageError
from bench.files import write_json
from bench.record_schema import ExtensibleModel
from bench.sweep.slurm_reasons import describe, explain

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
ANSWER_SECONDS = 30  # squeue itself tries for some time to reach its controller
SUBMIT_SECONDS = 180  # sbatch, too, and a large array takes longer
KEPT_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # how to reach Slurm, and who asks
FOREIGN_VARIABLES = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SRUN_", "SUBMITIT_")
SILENT = "Slurm does not answer (try sinfo); what runs goes on, run the command again later"
UNANSWERED = "?"  # stands for the id of an array until sbatch has answered


class SlurmUnavailable(UsageError):
    """Slurm does not answer at the moment."""


class SlurmRefusal(UsageError):
    """sbatch does not take a job; ``reason`` is what it says."""

    def __init__(self, reason: str) -> None:
        advice = describe(reason, []) if explain(reason) else f"{reason}; change the profile"
        super().__init__(f"sbatch refuses the jobs: {advice}")
        self.reason = reason

    @property
    def is_for_their_number(self) -> bool:
        """Whether fewer jobs, or the same ones later, would be taken."""
        return re.search(r"(?i)max_?submit|job submit limit|max_?job_?count|temporarily", self.reason) is not None


class SlurmSubmission(ExtensibleModel):
    """One job array that a sweep has submitted, or is about to.

    Attributes:
        number: counts the submissions of a results folder.
        name: the name of its jobs in Slurm. No other submission has it, whereas job ids are used again.
        sweep, command: the name of the sweep, and the command line that submitted it.
        submitted: time in ISO 8601, UTC.
        jobs: job id -> run id -> number of attempts that the run had made before. An intention, which is written before
            sbatch is called, has the ids ``?_0``, ``?_1`` and so on.
        report: the id of the job that collects the results, if there is one.
        report_fault: why there is none although there should be.
        conf: Slurm's configuration file, where it is not the system's.
        automatic: whether a driver or the collecting job submitted it because an earlier one was lost.
    """

    number: int
    name: str
    sweep: str
    command: str
    submitted: str
    jobs: dict[str, dict[str, int]]
    report: str | None = None
    report_fault: str | None = None
    conf: str | None = None
    automatic: bool = False

    @property
    def answered(self) -> bool:
        """Whether sbatch has answered, so that the ids of the jobs are there."""
        return not any(job.startswith(UNANSWERED) for job in self.jobs)

    def with_array(self, array: str) -> "SlurmSubmission":
        """Return the submission with the id of its array."""
        jobs = {f"{array}_{job.rpartition('_')[2]}": runs for job, runs in self.jobs.items()}
        return self.model_copy(update={"jobs": jobs})

    def write(self, results: Path) -> None:
        """Write the file of the submission, in the folder of its name."""
        write_json(submission_file(results, self.name), self.model_dump(mode="json"))


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue, as squeue prints it; ``reason`` is why it waits, ``conf`` its Slurm's configuration."""

    id: str
    state: str
    reason: str
    node: str
    conf: str | None = None


@dataclass(frozen=True)
class SubmittedJob:
    """The job of the last submission of a run, and how many attempts the run had made before it."""

    submission: SlurmSubmission
    id: str
    attempts_before: int


def submissions_folder(results: Path) -> Path:
    return results / "slurm"


def submission_file(results: Path, name: str) -> Path:
    return submissions_folder(results) / name / "submission.json"


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
        rows = [line.strip().split("|") for line in answer.splitlines() if line.count("|") == 3]
        jobs |= {job: QueuedJob(job, state, reason, node, conf) for job, state, reason, node in rows}
    return jobs


@dataclass(frozen=True)
class AccountedJob:
    """What Slurm's accounting says of a job: its state (FAILED, CANCELLED, TIMEOUT, ...), its exit code and the signal
    that ended it, both 0 where there is none."""

    state: str
    code: int = 0
    signal: int = 0


def accounted_jobs(jobs: Iterable[SubmittedJob]) -> dict[str, AccountedJob]:
    """Return what Slurm's accounting says of jobs, by their ids; {} where there is no accounting."""
    arrays: dict[str | None, set[str]] = {}
    for job in jobs:
        if job.submission.answered:
            arrays.setdefault(job.submission.conf, set()).add(job.id.partition("_")[0])
    accounted: dict[str, AccountedJob] = {}
    for conf, ids in arrays.items():
        words = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode")
        answer = _output("sacct", *words, f"--jobs={','.join(sorted(ids))}", conf=conf) or ""
        for job_ids, state, *codes in (line.split("|") for line in answer.splitlines() if "|" in line):
            if state:  # "CANCELLED by 1000" names the user
                code, _, number = codes[0].partition(":") if codes else ("0", "", "0")
                numbers = (int(text) if text.isdigit() else 0 for text in (code, number))
                accounted |= dict.fromkeys(expand_job_ids(job_ids), AccountedJob(state.split()[0], *numbers))
    return accounted


def array_of(submission: SlurmSubmission) -> str | None:
    """Return the id of the array of a submission by its name, from Slurm's queue or accounting; None where neither has
    it.

    Raises:
        SlurmUnavailable: Slurm does not answer.
    """
    queue = queued_jobs([submission])
    if queue is None:
        raise SlurmUnavailable(SILENT)
    since = (datetime.fromisoformat(submission.submitted) - timedelta(days=2)).strftime("%Y-%m-%d")
    words = ("--noheader", "--parsable2", "--allocations", "--format=JobID", f"--name={submission.name}")
    answer = "" if queue else _output("sacct", *words, f"--starttime={since}", conf=submission.conf) or ""
    return next((job.strip().partition("_")[0] for job in (*queue, *answer.splitlines()) if job.strip()), None)


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


def sbatch(script: Path) -> str:
    """Submit a script and return what sbatch prints.

    Raises:
        SlurmRefusal: sbatch does not take it.
        SlurmUnavailable: sbatch does not answer in time, or not at all; it may have submitted the script all the same.
    """
    try:
        done = subprocess.run(
            ["sbatch", str(script)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SUBMIT_SECONDS,
            env=environment(),
        )
    except (OSError, subprocess.SubprocessError):
        raise SlurmUnavailable(SILENT) from None
    if done.returncode == 0:
        return done.stdout
    if re.search(r"(?i)unable to contact|timed out|connect", done.stderr):
        raise SlurmUnavailable(SILENT)
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [done.stderr]
    raise SlurmRefusal(" ".join("; ".join(line.removeprefix("sbatch: error: ") for line in lines).split()))


def release(ids: Collection[str], conf: str | None) -> None:
    """Let held jobs wait for their turn again."""
    if ids:
        _output("scontrol", "release", ",".join(sorted(ids)), conf=conf)


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


def environment(conf: str | None = None, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for commands of Slurm: this process's, without what another job or shell means for them.

    Inside a job, sbatch would pass on that job's CPU binding, memory, GPUs and count of restarts; ``SBATCH_...`` would
    overrule the profile. What says how to reach Slurm stays; ``conf`` replaces ``SLURM_CONF``.
    """
    ours = {k: v for k, v in inherited.items() if k in KEPT_VARIABLES or not k.startswith(FOREIGN_VARIABLES)}
    return ours | ({"SLURM_CONF": conf} if conf else {})


def _output(*words: str, conf: str | None = None) -> str | None:
    """Return what a command of Slurm prints; None if it fails, does not end in time, or ``conf`` is suspect.

    A configuration names libraries that the command loads, and the results folder, which says where it is, may be
    written by others.
    """
    if conf and conf != os.environ.get("SLURM_CONF") and not _is_trustworthy(Path(conf)):
        return None
    env = environment(conf)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS, env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _is_trustworthy(file: Path) -> bool:
    """Return whether nobody but root and this user can have written a file."""
    try:
        status = file.stat()
    except OSError:
        return False
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
