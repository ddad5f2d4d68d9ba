"""What appears in a results folder, as the events that the runs report where they are executed."""

from collections.abc import Sequence
from pathlib import Path

from bench.config import Run
from bench.events import Listener, RunEvent
from bench.run_dir import RunDir
from bench.sweep import progress_file
from bench.sweep.claims import ClaimObserver
from bench.sweep.states import Name, State, state


class RunFollower:
    """Turns what appears in the results folder into events. ``again``: a failure is not the end of a run."""

    def __init__(self, runs: Sequence[Run], results: Path, report: Listener, *, again: bool = False) -> None:
        self._runs = {run.id: run for run in runs}
        self._results = results
        self._report = report
        self._again = again
        self._observer = ClaimObserver()
        self._seen: dict[str, RunEvent] = {}

    def look(self) -> dict[str, Name]:
        """Report every run that has begun, come further or ended since the last look; return the states of the rest."""
        left: dict[str, Name] = {}
        for run in list(self._runs.values()):
            found = state(self._results, run, self._observer)
            event = self._event(run, found)
            if event is None or event.kind != "end":
                left[run.id] = found.name
            else:
                del self._runs[run.id]
            if event is None or event == self._seen.get(run.id):
                continue
            if run.id not in self._seen and event.kind != "end":
                self._report(RunEvent("start", run.id))
            self._seen[run.id] = event
            self._report(event)
        return left

    def _event(self, run: Run, found: State) -> RunEvent | None:
        if found.name == "running":
            said = progress_file.read(RunDir(self._results, run.id))
            if said.get("step") is None:
                return RunEvent("phase", run.id, said.get("phase", "set-up"))
            return RunEvent("step", run.id, said["phase"], said["step"], said["steps"], said["loss"], said["epoch"])
        if found.settled(self._again):
            return RunEvent("end", run.id, f"{found.name}: {found.note}" if found.note else found.name)
        return None
