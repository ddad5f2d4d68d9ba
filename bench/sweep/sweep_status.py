"""The state of a sweep at a glance, for people and programs: from the results folder, and Slurm if it answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError, near_matches
from bench.files import parse_json, read_bytes
from bench.fingerprints import Expectations
from bench.records import run_names
from bench.run_dir import RunDir
from bench.states import STATES, UNTIL_PARKED
from bench.sweep import attempts, progress_file, slurm_client
from bench.sweep.claim_files import current
from bench.sweep.claims import ClaimObserver
from bench.sweep.run_state import State, state, stored_state
from bench.sweep.slurm_client import QueuedJob, SubmittedJob
from bench.sweep.slurm_reasons import describe, explain

#: The columns of a running run that come from its progress file.
PROGRESS_COLUMNS = ("step", "steps", "epoch", "eta_seconds", "samples_per_second", "memory_bytes", "node")


@dataclass(frozen=True)
class SweepStatus:
    """The state of every run of a sweep.

    Attributes:
        rows: one per cell, with ``run, state, step, steps, epoch, eta_seconds, samples_per_second, memory_bytes, node,
            job, attempts, note, log``; None where there is nothing to say.
        totals: state -> number of runs.
        eta_seconds: an estimate of the time until all runs are settled; None where nothing is measured yet.
        slurm: a message if Slurm was asked and did not answer.
    """

    rows: list[dict[str, Any]]
    totals: dict[str, int]
    eta_seconds: float | None
    slurm: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether no run is running, waiting or missing."""
        return all(STATES[name].settled for name in self.totals)


class SweepObserver:
    """Looks at a sweep again and again. From the second look on it can tell which owners on other hosts are alive.

    The first look judges by what is on disk. An owner whose last beat is older than its lease, by the clock of the file
    system, is dead if Slurm does not run its job any more; otherwise nobody knows, and the row says so.
    """

    def __init__(self, cells: Sequence[Any], results: Path, expected: Expectations | None = None) -> None:
        self._cells = cells
        self._results = results
        self._expected = expected
        self._observer = ClaimObserver()
        self._run_seconds: dict[str, float] = {}

    def look(self) -> SweepStatus:
        """Return the state of the sweep now."""
        states = {
            cell.run_id: state(self._results, cell.run, self._observer, self._expected)
            for cell in self._cells
            if cell.run
        }
        # A failed run may have been submitted once more, so those that a sweep would try again are looked up as well.
        unsettled = {run for run, current in states.items() if not current.is_settled(UNTIL_PARKED)}
        submitted = {r: job for r, job in slurm_client.submitted_jobs(self._results).items() if r in unsettled}
        queue = slurm_client.queued_jobs(job.submission for job in submitted.values())
        listed = {job for submitted_job in submitted.values() for job in submitted_job.submission.jobs}
        rows = []
        for cell in self._cells:
            row: dict[str, Any] = {"run": cell.run_id, "state": "unsupported", **dict.fromkeys(PROGRESS_COLUMNS)}
            row |= {"job": None, "attempts": 0, "note": cell.reason, "log": None}
            if cell.run:
                run_dir, now = RunDir(self._results, cell.run_id), states[cell.run_id]
                if now.name == "running" and now.note and queue is not None:  # silent for longer than its lease
                    claim = current(run_dir.claim)
                    job_of_owner = claim.owner.job if claim else None
                    if job_of_owner in listed and not _is_at_work(queue.get(job_of_owner or "")):
                        now = stored_state(run_dir, cell.run, self._expected)
                row |= self._run_columns(run_dir, now)
            if job := submitted.get(cell.run_id):
                row |= _queue_columns(row["state"], job, queue)
            rows.append(row)
        message = "Slurm does not answer here: what is queued is what was submitted" if queue is None else ""
        return SweepStatus(rows, dict(Counter(row["state"] for row in rows)), self._seconds_left(rows), message)

    def _run_columns(self, run_dir: RunDir, current: State) -> dict[str, Any]:
        made = attempts.read(run_dir)
        columns: dict[str, Any] = {"state": current.name, "note": current.note, "attempts": len(made)}
        if made:
            columns |= {"job": made[-1].job, "node": made[-1].host, "log": made[-1].log}
        if current.name == "running":
            progress = progress_file.read(run_dir)
            keys = (*PROGRESS_COLUMNS, "job")
            columns |= {key: progress[key] for key in keys if progress.get(key) is not None}
            if current.note:  # nothing was heard of it, so nobody knows when it will end
                columns["eta_seconds"] = None
            else:
                columns["note"] = progress.get("phase", "set-up")
        if current.name in ("failed", "parked"):
            columns |= self._failure_columns(run_dir, current.note)
        if current.name == "done" and run_dir.id not in self._run_seconds:
            record = run_dir.read()
            self._run_seconds[run_dir.id] = float((record and record.time.get("total_seconds")) or 0)
        return columns

    def _failure_columns(self, run_dir: RunDir, cause: str) -> dict[str, Any]:
        record = run_dir.read()
        error = record.error if record else None
        message = " ".join(error.message.split())[:200] if error else ""
        return {
            "note": f"{cause}: {message}",
            "step": error.step if error else None,
            "log": str(run_dir.log) if run_dir.log.exists() else attempts.last_log(run_dir),
        }

    def _seconds_left(self, rows: list[dict[str, Any]]) -> float | None:
        """Estimate the time until all runs are settled.

        Running runs need the rest of their training, others as long as the finished ones took on average. The sum is
        divided by the number of running runs, which is how many workers there are.
        """
        unsettled = [row for row in rows if not STATES[row["state"]].settled]
        running = [row for row in unsettled if row["state"] == "running"]
        if not unsettled:
            return 0.0
        mean = sum(self._run_seconds.values()) / len(self._run_seconds) if self._run_seconds else None
        rest = [row["eta_seconds"] if row["state"] == "running" else mean for row in unsettled]
        estimates = [seconds if seconds is not None else mean for seconds in rest]
        if not running or any(seconds is None for seconds in estimates):
            return None
        return sum(seconds for seconds in estimates if seconds is not None) / len(running)


def _queue_columns(name: str, submitted: SubmittedJob, queue: dict[str, QueuedJob] | None) -> dict[str, Any]:
    """Return what the queue adds to the row of a run in state ``name``; ``queue`` is None where Slurm is silent.

    A run that nobody works on is queued if it has never begun; if it has begun and its job waits again, it was
    preempted, whatever ended the attempt.
    """
    if queue is None:
        if name != "missing":
            return {}
        return {"state": "queued", "job": submitted.id, "note": "Slurm does not answer"}
    job = queue.get(submitted.id)
    if not submitted.submission.answered:
        note = "being submitted, or the sweep was killed meanwhile; run the sweep again"
        return {"state": "queued", "note": note} if name == "missing" else {}
    if job is None:
        return {"note": f"its job {submitted.id} is gone; run the sweep again"} if name == "missing" else {}
    if name == "missing":
        note = "starting" if job.state == "RUNNING" else describe(job.reason, [job.id])
        return {"state": "queued", "job": job.id, "node": job.node or None, "note": note}
    if name != "interrupted":
        return {}
    why = {"note": describe(job.reason, [job.id])} if explain(job.reason) else {}
    return {"state": "preempted", "job": job.id, **why}


def _is_at_work(job: QueuedJob | None) -> bool:
    """Return whether Slurm runs a job, or is about to end it."""
    return job is not None and job.state != "PENDING"


def find_run_dir(results: Path, prefix: str, data: str | None = None) -> RunDir:
    """Return the directory of a run by its id or the beginning of it; ``data`` is the name of its data root.

    Raises:
        UsageError: no id begins so, or several do.
    """
    names = run_names(results)
    matches = [name for name in names if name.startswith(prefix)]
    if data:
        matches = [name for name in matches if _data_name(RunDir(results, name)) == data]
    if prefix in matches:
        matches = [prefix]
    if not matches:
        hint = near_matches(prefix, names) or "; `python -m bench status` lists them"
        raise UsageError(f"{prefix}: no such run below {results / 'runs'}{hint}")
    if len(matches) > 1:
        raise UsageError(f"{prefix}: {len(matches)} runs are called so: {', '.join(matches[:4])}; give more of the id")
    return RunDir(results, matches[0])


def _data_name(run_dir: RunDir) -> str | None:
    """Return the name of a run's data root; None where run.json cannot be read."""
    try:
        return str(parse_json(read_bytes(run_dir.run))["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
