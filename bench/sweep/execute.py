"""Executing runs in this process: every run once, whichever other processes work on the same results folder."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.config import Execution, Run
from bench.environment import environment
from bench.errors import UsageError
from bench.events import Listener, OwnershipLost, RunEvent, silent
from bench.files import explain_write_errors, read_json_lines
from bench.fingerprints import Expectations
from bench.record_schema import Failure, Record, now
from bench.run_dir import RunDir
from bench.states import DEFAULT_RETRY, RetryPolicy
from bench.sweep import attempts
from bench.sweep.attempts import Attempt
from bench.sweep.claim_files import current
from bench.sweep.claims import ClaimObserver, Lease, acquire
from bench.sweep.progress_file import ProgressFile
from bench.sweep.run_state import state, stored_state

POLL_SECONDS = 1.0


def work_through(
    runs: Sequence[Run],
    execution: Execution,
    results: Path,
    report: Listener = silent,
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    wait: bool = True,
    log: str | None = None,
) -> list[UsageError]:
    """Execute every run that is not settled, one after the other in this process.

    A failed run has a record that says why, and the next one begins; whether it gets another attempt, after the other
    runs, is up to ``retry``. A run with a corrupt record is executed again. Runs that other processes work on are
    looked at again once the rest is done, and taken over where their owner has died. A run that its surroundings
    interrupt, or that this process may not write, costs the others nothing: it is left as it is, with a note.

    Args:
        runs: the runs to execute.
        execution: device, threads and data roots.
        results: the results folder.
        report: receives the progress.
        retry: whether failed runs are tried again.
        wait: wait until the runs of other living processes are settled; otherwise only until their owners are known
            to live.
        log: the file that receives the output of this process, to be noted in the attempts.

    Returns:
        What kept runs from being executed; they have no record, and another call goes on with them.

    Raises:
        KeyboardInterrupt: the current run has made its checkpoint, the rest has not begun.
        UsageError: the device is not there; nothing was executed.
    """
    executor = _InlineExecutor(execution, results, report, retry, log)
    observer = ClaimObserver()
    unsettled, waiting_noted = list(runs), False
    faults: list[UsageError] = []
    while unsettled:
        open_runs, held_elsewhere = [], []
        for run in unsettled:
            if state(results, run, observer).is_settled(retry):
                continue
            require_device(execution)
            try:
                lease = acquire(RunDir(results, run.id).claim, observer)
                if lease is None:
                    held_elsewhere.append(run)
                elif not executor.execute(run, lease):
                    open_runs.append(run)
            except UsageError as fault:
                faults.append(fault)
                left = " is left to its owner" if isinstance(fault.__cause__, PermissionError) else ""
                report(RunEvent("note", run.id, f"{run.id}{left}: {fault}"))
        held_elsewhere = [run for run in held_elsewhere if wait or not _owner_lives(RunDir(results, run.id), observer)]
        if held_elsewhere and not open_runs:
            if wait and not waiting_noted:
                message = f"{len(held_elsewhere)} runs are other processes'; waiting for them"
                report(RunEvent("note", "", message))
                waiting_noted = True
            time.sleep(POLL_SECONDS)
        unsettled = [*open_runs, *held_elsewhere]
    return faults


def require_device(execution: Execution) -> None:
    """Raise UsageError where this machine does not have the device that is asked for by its name, or not what compiles
    for it."""
    if execution.device not in ("auto", "cpu") or execution.compile:
        from bench import backbones
        from bench.device import pick

        device = pick(execution.device)
        if execution.compile:
            backbones.require_compiler(device)


def _owner_lives(run_dir: RunDir, observer: ClaimObserver) -> bool:
    """Return whether the owner of a run is known to be alive."""
    try:
        claim = current(run_dir.claim)
    except OSError:  # not to be looked into
        return False
    return claim is not None and claim.held and observer.verdict(claim) == "alive"


@dataclass(frozen=True)
class _InlineExecutor:
    """Makes attempts at runs that this process has claimed."""

    execution: Execution
    results: Path
    report: Listener
    retry: RetryPolicy
    log: str | None

    def execute(self, run: Run, lease: Lease) -> bool:
        """Make an attempt at a run, give the claim back, and return whether the run is settled."""
        run_dir = RunDir(self.results, run.id, lease)
        progress = ProgressFile(run_dir, self.report, lease.owner.job)

        def on_beat() -> str | None:
            progress.write()
            return "cancelled" if run_dir.cancelled.exists() else None

        lease.on_beat = on_beat
        with lease:
            # Another process may have finished the run after its state was read and before it was claimed.
            if stored_state(run_dir).is_settled(self.retry):
                return True
            try:
                if kills := attempts.kills_in_a_row(run_dir):
                    run_dir.finish(_worker_died_record(run, run_dir, kills))
                    return True
                self._attempt(run, run_dir, progress, lease)
            except OwnershipLost as fault:
                self.report(RunEvent("note", run.id, f"{run.id}: {fault}"))
                return False
            finally:
                lease.stop_beats()  # before the file is removed: a beat would write it again
                with suppress(OSError, OwnershipLost):
                    run_dir.remove(run_dir.progress)
            return stored_state(run_dir).is_settled(self.retry)

    def _attempt(self, run: Run, run_dir: RunDir, progress: ProgressFile, lease: Lease) -> None:
        """Make one attempt and write how it ended.

        Raises:
            KeyboardInterrupt: this process was told to stop; not where only this run was cancelled.
            OwnershipLost: another process has taken the run over.
            UsageError: the run directory cannot be written, or the surroundings interrupted the run.
        """
        with explain_write_errors(run_dir.path):
            attempt = attempts.begin(run_dir, lease.owner, self.log)
        try:
            from bench.run import run_one

            record = run_one(run, self.execution, self.results, progress, lease)
        except OwnershipLost:
            raise
        except KeyboardInterrupt as stop:
            with suppress(OSError):
                attempts.end(run_dir, attempt, "interrupted", str(stop) or "interrupted")
            if not run_dir.cancelled.exists():
                raise
        except UsageError as error:  # "failed": nobody should submit the run again by itself
            with suppress(OSError):
                attempts.end(run_dir, attempt, "failed", str(error), attempts.SURROUNDINGS)
            raise
        else:
            message = record.error.message if record.error else ""
            with explain_write_errors(run_dir.path):
                attempts.end(run_dir, attempt, record.status, message, attempts.failure_kind(record))


def _worker_died_record(run: Run, run_dir: RunDir, kills: list[Attempt]) -> Record:
    """Return the record of a run whose processes are killed again and again at the same point."""
    curve = run_dir.read_curve()
    processes = ", ".join(f"{attempt.pid} on {attempt.host}" for attempt in kills)
    failure = Failure(
        phase="worker",
        step=curve[-1]["step"] if curve else None,
        type="WorkerDied",
        message=f"killed {len(kills)} times at the same point, from outside or for want of memory: process {processes}",
    )
    return Record(
        id=run.id,
        run=run,
        status="failed",
        cause="error",
        error=failure,
        environment=environment(),
        segments=read_json_lines(run_dir.segments),
        limited=run.recipe.limit is not None,
        finished=now(),
    )


def begin_anew(run: Run, results: Path, expected: Expectations | None = None) -> bool:
    """Let a failed, parked, cancelled or stale run begin anew; return False where another process works on it.

    The files of earlier attempts are moved aside in the run directory, never overwritten. Whether the run is stale is
    known where ``expected`` is given.

    Raises:
        UsageError: the run directory cannot be written.
    """
    run_dir = RunDir(results, run.id)
    lease = acquire(run_dir.claim, ClaimObserver())
    if lease is None:
        return False
    with lease, explain_write_errors(run_dir.path):
        run_dir = RunDir(results, run.id, lease)
        run_dir.remove(run_dir.cancelled)
        if stored_state(run_dir, run, expected).name in ("failed", "parked", "stale"):
            run_dir.put_aside(keep=(run_dir.claim,), last=run_dir.record)
    return True
