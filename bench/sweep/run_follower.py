"""Turns what other processes write into a results folder into the events that a run reports where it is executed."""

from collections.abc import Sequence
from pathlib import Path

from bench.config import Run
from bench.events import Listener, RunEvent
from bench.run_dir import RunDir
from bench.states import RetryPolicy, StateName
from bench.sweep import progress_file
from bench.sweep.claims import ClaimObserver
from bench.sweep.run_state import State, state


class RunFollower:
    """Reports the progress of runs that other processes execute. A run ends when ``retry`` counts it as settled.

    ``observer`` is what has looked at the claims of the runs, at every look.
    """

    def __init__(self, runs: Sequence[Run], results: Path, report: Listener, retry: RetryPolicy) -> None:
        self._runs = {run.id: run for run in runs}
        self._results = results
        self._report = report
        self._retry = retry
        self.observer = ClaimObserver()
        self._last_events: dict[str, RunEvent] = {}

    def look(self) -> dict[str, StateName]:
        """Report what has happened since the last look and return the states of the runs that are not settled."""
        unsettled: dict[str, StateName] = {}
        for run in list(self._runs.values()):
            current = state(self._results, run, self.observer)
            event = self._event(run, current)
            if event is None or event.kind != "end":
                unsettled[run.id] = current.name
            else:
                del self._runs[run.id]
            if event is None or event == self._last_events.get(run.id):
                continue
            if run.id not in self._last_events and event.kind != "end":
                self._report(RunEvent("start", run.id))
            self._last_events[run.id] = event
            self._report(event)
        return unsettled

    def _event(self, run: Run, current: State) -> RunEvent | None:
        if current.name == "running":
            progress = progress_file.read(RunDir(self._results, run.id))
            if progress.get("step") is None:
                return RunEvent("phase", run.id, progress.get("phase", "set-up"))
            position = progress["step"], progress["steps"], progress["loss"], progress["epoch"]
            return RunEvent("step", run.id, progress["phase"], *position)
        if current.is_settled(self._retry):
            return RunEvent("end", run.id, f"{current.name}: {current.note}" if current.note else current.name)
        return None
