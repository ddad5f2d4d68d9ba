"""Executing the runs of a sweep: in this process, or in worker processes through Submitit's local executor."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.config import Execution, Run
from bench.events import Event, Report, silent
from bench.records import Corrupt, Folder
from bench.sweep.claims import claim, is_claimed

POLL_SECONDS = 1.0


def pending(runs: Sequence[Run], results: Path, retry_failed: bool) -> tuple[list[Run], dict[str, str]]:
    """Return the runs that are still to be done, and the state of the others: done, failed, or running elsewhere.

    A corrupt record counts as not done. A failure is kept unless it is to be retried.
    """
    todo, settled = [], {}
    for run in runs:
        folder = Folder(results, run.id)
        try:
            record = folder.read()
        except Corrupt:
            record = None
        if record is not None and (record.status == "done" or not retry_failed):
            settled[run.id] = record.status
        elif is_claimed(folder.claim):
            settled[run.id] = "running"
        else:
            todo.append(run)
    return todo, settled


def work_through(
    runs: Sequence[Run], execution: Execution, results: Path, report: Report = silent, retry_failed: bool = False
) -> None:
    """Do every run that nobody has done and nobody is working on, one after the other in this process.

    Raises:
        KeyboardInterrupt: the current run has made its checkpoint, the rest has not begun.
    """
    from bench.run import run_one

    for run in runs:
        with claim(Folder(results, run.id).claim) as mine:
            if mine and pending_alone(run, results, retry_failed):
                run_one(run, execution, results, report)


def pending_alone(run: Run, results: Path, retry_failed: bool) -> bool:
    """Return whether a claimed run is still to be done: another process may have done it since it was listed."""
    try:
        record = Folder(results, run.id).read()
    except Corrupt:
        return True
    return record is None or (record.status == "failed" and retry_failed)


class Lane:
    """What a worker process executes: plain data and a module-level function, so that it pickles by reference."""

    def __init__(self, runs: Sequence[Run], execution: Execution, results: Path, retry_failed: bool) -> None:
        self.arguments: tuple[Any, ...] = (
            [run.model_dump(mode="json", by_alias=True) for run in runs],
            execution.model_dump(mode="json"),
            str(results),
            retry_failed,
        )

    def __call__(self) -> None:
        """Work through the list; runs that another lane has claimed are passed over."""
        runs, execution, results, retry_failed = self.arguments
        work_through(
            [Run.model_validate(run) for run in runs],
            Execution.model_validate(execution),
            Path(results),
            silent,
            retry_failed,
        )


def local(
    runs: Sequence[Run],
    execution: Execution,
    results: Path,
    *,
    jobs: int,
    report: Report,
    retry_failed: bool = False,
    timeout_hours: int = 24 * 14,
) -> None:
    """Run ``jobs`` worker processes through Submitit's local executor until all runs are done.

    Submitit's local executor starts everything it is given at once; so it is given ``jobs`` lanes, each of which claims runs from the same list. Progress is
    read from the results folder.

    Raises:
        KeyboardInterrupt: after the lanes were told to stop and have made their checkpoints.
    """
    import submitit

    executor = submitit.LocalExecutor(folder=results / "submitit" / "%j")
    executor.update_parameters(timeout_min=60 * timeout_hours)
    lanes = [executor.submit(Lane(runs, execution, results, retry_failed)) for _ in range(min(jobs, len(runs)))]
    watch = Watch(runs, results, report)
    try:
        while not all(lane.done() for lane in lanes):
            watch.look()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        for lane in lanes:
            lane.cancel(check=False)
        for lane in lanes:
            lane.wait()
        raise
    watch.look()
    for lane in lanes:
        fault = lane.exception()
        if fault is not None:
            report(Event("end", "lane", f"worker {lane.job_id} ended early; see {lane.paths.stderr}"))


class Watch:
    """Turns what appears in the results folder into events."""

    def __init__(self, runs: Sequence[Run], results: Path, report: Report) -> None:
        self._folders = {run.id: Folder(results, run.id) for run in runs}
        self._report = report
        self._seen: dict[str, str] = {}

    def look(self) -> None:
        """Report every run whose state has changed since the last look."""
        for run_id, folder in self._folders.items():
            state, event = self._state(folder)
            if state and self._seen.get(run_id) != state:
                self._seen[run_id] = state
                self._report(event)

    def _state(self, folder: Folder) -> tuple[str, Event]:
        if folder.record.exists():
            try:
                record = folder.read()
            except Corrupt as fault:
                return "corrupt", Event("end", folder.id, f"corrupt: {fault}")
            outcome = "" if record is None else record.status if record.cause is None else f"{record.status}: {record.cause}"
            return f"end {outcome}", Event("end", folder.id, outcome)
        if not folder.claim.exists():
            return "", Event("phase", folder.id)
        return "start", Event("start", folder.id)
