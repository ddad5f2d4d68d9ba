"""Working through runs in this process: every run once, whoever else is at work on the same results folder."""

from collections.abc import Sequence
from pathlib import Path

from bench.config import Execution, Run
from bench.events import Report, silent
from bench.records import Folder
from bench.sweep.claims import claim
from bench.sweep.states import state


def work_through(
    runs: Sequence[Run], execution: Execution, results: Path, report: Report = silent, retry_failed: bool = False
) -> None:
    """Do every run that nobody has done and nobody is working on, one after the other in this process.

    A run that fails has a record that says why, and the next one begins. A corrupt record counts as not done; a failed
    run is done again only with ``retry_failed``.

    Raises:
        KeyboardInterrupt: the current run has made its checkpoint, the rest has not begun.
    """
    from bench.run import run_one

    for run in runs:
        path = Folder(results, run.id).claim
        if state(results, run).settled(retry_failed):
            continue
        with claim(path) as mine:
            # Another process may have finished the run between the look and the claim.
            if mine and not _done_meanwhile(results, run, retry_failed):
                run_one(run, execution, results, report)


def _done_meanwhile(results: Path, run: Run, retry_failed: bool) -> bool:
    """Whether a run that we hold needs nothing; our own claim makes it look as if it ran."""
    now = state(results, run)
    return now.name != "running" and now.settled(retry_failed)
