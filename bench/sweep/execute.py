"""Working through runs in this process: every run once, whoever else is at work on the same results folder."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.config import Execution, Run
from bench.environment import environment
from bench.errors import UsageError
from bench.events import Listener, OwnershipLost, RunEvent, silent
from bench.files import explain_write_errors, read_json_lines
from bench.record_schema import Failure, Record, now
from bench.run_dir import RunDir
from bench.sweep import attempts
from bench.sweep.attempts import Attempt
from bench.sweep.claims import ClaimObserver, Lease, acquire, current
from bench.sweep.progress_file import ProgressFile
from bench.sweep.states import outcome, state

POLL_SECONDS = 1.0


def work_through(
    runs: Sequence[Run],
    execution: Execution,
    results: Path,
    report: Listener = silent,
    *,
    wait: bool = True,
    again: bool = False,
) -> None:
    """Do every run that is not settled, one after the other in this process.

    A run that fails has a record that says why, and the next one begins. A corrupt record counts as not done. Runs that
    others are working on are looked at again once the rest is done, and taken over where their owner has died.

    Args:
        runs: what to do.
        execution: where.
        results: the results folder.
        report: receives the progress.
        wait: wait for the runs of living others until these are settled; otherwise only until they are known to live.
        again: try failed runs again, until they are parked.

    Raises:
        KeyboardInterrupt: the current run has made its checkpoint, the rest has not begun.
        UsageError: the results folder cannot be written.
    """
    observer = ClaimObserver()
    left, told = list(runs), False
    while left:
        mine, others = [], []
        for run in left:
            if state(results, run, observer).settled(again):
                continue
            lease = acquire(RunDir(results, run.id).claim, observer)
            if lease is None:
                others.append(run)
            elif not _hold(run, execution, results, report, lease, again):
                mine.append(run)
        others = [run for run in others if wait or not _lives(RunDir(results, run.id), observer)]
        if others and not mine:
            if wait and not told:
                report(RunEvent("note", "", f"{len(others)} runs are other processes'; waiting for them"))
                told = True
            time.sleep(POLL_SECONDS)
        left = [*mine, *others]


def _lives(folder: RunDir, observer: ClaimObserver) -> bool:
    """Whether a run's owner is known to be alive."""
    claim = current(folder.claim)
    return claim is not None and claim.held and observer.verdict(claim) == "alive"


def _hold(run: Run, execution: Execution, results: Path, report: Listener, lease: Lease, again: bool) -> bool:
    """Do a run that we have claimed; return whether it is settled now."""
    folder = RunDir(results, run.id, lease.check)
    pulse = ProgressFile(folder, report, lease.owner.job)

    def beat() -> str | None:
        pulse.write()
        return "cancelled" if folder.cancelled.exists() else None

    lease.on_beat = beat
    with lease:
        # Another process may have finished the run between the look and the claim.
        if outcome(folder).settled(again):
            return True
        if killed := attempts.killed_too_often(folder):
            folder.finish(_given_up(run, folder, killed))
            return True
        try:
            _attempt(run, execution, results, pulse, lease, folder)
        except OwnershipLost as lost:
            report(RunEvent("note", run.id, f"{run.id}: {lost}"))
            return False
        finally:
            lease.quiet()
            if not lease.lost:
                folder.progress.unlink(missing_ok=True)
        return outcome(folder).settled(again)


def _attempt(run: Run, execution: Execution, results: Path, pulse: ProgressFile, lease: Lease, folder: RunDir) -> None:
    """Make one attempt and write down how it ended."""
    with explain_write_errors(folder.path):
        attempt = attempts.begin(folder, lease.owner, _log())
    try:
        from bench.run import run_one

        record = run_one(run, execution, results, pulse, lease)
    except OwnershipLost:
        raise
    except KeyboardInterrupt as stop:
        with suppress(OSError):
            attempts.end(folder, attempt, "interrupted", str(stop) or "interrupted")
        if not folder.cancelled.exists():
            raise
    except UsageError as error:
        with suppress(OSError):
            attempts.end(folder, attempt, "interrupted", str(error))
        raise
    else:
        said = record.error.message if record.error else ""
        with explain_write_errors(folder.path):
            attempts.end(folder, attempt, record.status, said, attempts.kind(record))


def _log() -> str | None:
    """Name the file that takes the output of this process, where Submitit knows."""
    if "SUBMITIT_FOLDER" not in os.environ:
        return None
    import submitit

    return str(submitit.JobEnvironment().paths.stderr)


def _given_up(run: Run, folder: RunDir, killed: list[Attempt]) -> Record:
    """Return the record of a run whose processes die again and again."""
    curve = read_json_lines(folder.curve)
    places = ", ".join(f"{attempt.pid} on {attempt.host}" for attempt in killed)
    failure = Failure(
        phase="worker",
        step=curve[-1]["step"] if curve else None,
        type="WorkerDied",
        message=f"killed {len(killed)} times at the same point, from outside or for want of memory: process {places}",
    )
    segments = read_json_lines(folder.segments)
    told: dict[str, Any] = {"status": "failed", "cause": "error", "error": failure, "finished": now()}
    limited = run.recipe.limit is not None
    return Record(id=run.id, run=run, environment=environment(), segments=segments, limited=limited, **told)


def try_again(run: Run, results: Path) -> bool:
    """Put a failed, parked or cancelled run back to the start of its attempts; False where another works on it.

    The files of what failed are put aside, never overwritten.
    """
    folder = RunDir(results, run.id)
    lease = acquire(folder.claim, ClaimObserver())
    if lease is None:
        return False
    with lease, explain_write_errors(folder.path):
        folder.cancelled.unlink(missing_ok=True)
        if outcome(folder).name in ("failed", "parked"):
            folder.put_aside(keep=(folder.claim,))
    return True
