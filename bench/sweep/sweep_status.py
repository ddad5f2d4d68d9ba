"""The state of a sweep at a glance, for people and programs: read from the results folder, and Slurm if it answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError, near_matches
from bench.run_dir import RunDir
from bench.sweep import attempts, progress_file, slurm_client
from bench.sweep.claims import ClaimObserver
from bench.sweep.slurm_client import QueuedJob, SubmittedJob
from bench.sweep.states import State, state

OPEN = ("running", "queued", "preempted", "interrupted", "missing", "corrupt")


@dataclass(frozen=True)
class SweepStatus:
    """Every run, how many there are of each state, and an estimate of the seconds until all are settled.

    A row has ``run, state, step, steps, epoch, eta_seconds, samples_per_second, memory_bytes, node, job, attempts,
    note, log``; what is not known is None. ``slurm`` says so if Slurm was asked and did not answer.
    """

    rows: list[dict[str, Any]]
    totals: dict[str, int]
    eta_seconds: float | None
    slurm: str = ""


class SweepObserver:
    """Looks at a sweep again and again; the second look knows which owners live."""

    def __init__(self, cells: Sequence[Any], results: Path) -> None:
        self._cells = cells
        self._results = results
        self._observer = ClaimObserver()
        self._seconds: dict[str, float] = {}

    def look(self) -> SweepStatus:
        """Return the state of the sweep now."""
        states = {cell.run_id: state(self._results, cell.run, self._observer) for cell in self._cells if cell.run}
        open_ = {run for run, now in states.items() if not now.settled(again=True)}
        placed = {run: place for run, place in slurm_client.places(self._results).items() if run in open_}
        known = slurm_client.queued(place.submission for place in placed.values())
        rows = []
        for cell in self._cells:
            row: dict[str, Any] = {"run": cell.run_id, "state": "unsupported"}
            row |= dict.fromkeys(
                ("step", "steps", "epoch", "eta_seconds", "samples_per_second", "memory_bytes", "node")
            )
            row |= {"job": None, "attempts": 0, "note": cell.reason, "log": None}
            if cell.run:
                row |= self._found(RunDir(self._results, cell.run_id), states[cell.run_id])
            if place := placed.get(cell.run_id):
                row |= _in_queue(row["state"], place, known)
            rows.append(row)
        silent = "Slurm does not answer here: what is queued is what was submitted" if known is None else ""
        return SweepStatus(rows, dict(Counter(row["state"] for row in rows)), self._left(rows), silent)

    def _found(self, folder: RunDir, now: State) -> dict[str, Any]:
        tried = attempts.read(folder)
        found: dict[str, Any] = {"state": now.name, "note": now.note, "attempts": len(tried)}
        if tried:
            found |= {"job": tried[-1].job, "node": tried[-1].host, "log": tried[-1].log}
        if now.name == "running":
            keys = ("step", "steps", "epoch", "eta_seconds", "samples_per_second", "memory_bytes", "node", "job")
            said = progress_file.read(folder)
            found |= {key: said[key] for key in keys if said.get(key) is not None}
            found["note"] = said.get("phase", "set-up")
        if now.name in ("failed", "parked"):
            found |= self._failure(folder, now.note)
        if now.name == "done":
            self._done(folder)
        return found

    def _failure(self, folder: RunDir, cause: str) -> dict[str, Any]:
        record = folder.read()
        message = " ".join(record.error.message.split())[:200] if record and record.error else ""
        return {
            "note": f"{cause}: {message}",
            "step": record.error.step if record and record.error else None,
            "log": str(folder.log) if folder.log.exists() else attempts.log(folder),
        }

    def _done(self, folder: RunDir) -> None:
        if folder.id not in self._seconds:
            record = folder.read()
            self._seconds[folder.id] = float((record and record.time.get("total_seconds")) or 0)

    def _left(self, rows: list[dict[str, Any]]) -> float | None:
        """Estimate the time until all runs are settled.

        The rest of the running ones, as long for the others as those that are done took on the mean, shared by as many
        workers as are at work.
        """
        todo = [row for row in rows if row["state"] in OPEN]
        running = [row for row in todo if row["state"] == "running"]
        if not todo:
            return 0.0
        mean = sum(self._seconds.values()) / len(self._seconds) if self._seconds else None
        rest = [row["eta_seconds"] if row["state"] == "running" else mean for row in todo]
        known = [seconds if seconds is not None else mean for seconds in rest]
        if not running or any(seconds is None for seconds in known):
            return None
        return sum(seconds for seconds in known if seconds is not None) / len(running)


def _in_queue(name: str, place: SubmittedJob, known: dict[str, QueuedJob] | None) -> dict[str, Any]:
    """Say what Slurm is to do with a run that nobody works on; a run that began is preempted, whatever ended it."""
    if known is None and name == "missing":
        return {"state": "queued", "job": place.job, "note": "Slurm does not answer"}
    job = known.get(place.job) if known else None
    if job is None:
        gone = {"note": f"its job {place.job} is gone; run the sweep again"} if known is not None else {}
        return gone if name == "missing" else {}
    if name == "missing":
        why = "starting" if job.state == "RUNNING" else job.reason
        return {"state": "queued", "job": job.id, "node": job.node or None, "note": why}
    return {"state": "preempted", "job": job.id} if name == "interrupted" else {}


def named(results: Path, wanted: str) -> RunDir:
    """Return the folder of a run by its id or the beginning of it.

    Raises:
        UsageError: no run is called so, or several are.
    """
    names = sorted(path.name for path in (results / "runs").glob("*"))
    found = [name for name in names if name.startswith(wanted)]
    if wanted in found:
        found = [wanted]
    if not found:
        hint = near_matches(wanted, names) or "; `python -m bench status` lists them"
        raise UsageError(f"{wanted}: no such run below {results / 'runs'}{hint}")
    if len(found) > 1:
        raise UsageError(f"{wanted}: {len(found)} runs are called so: {', '.join(found[:4])}; give more of the id")
    return RunDir(results, found[0])
