"""What is in a results folder: its sweeps, the runs that belong to none, and the room that they take."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.files import one_line
from bench.records import run_names
from bench.run_dir import RunDir
from bench.sweep.claims import ClaimObserver
from bench.sweep.expand import expand
from bench.sweep.run_state import state, stored_state
from bench.sweep.spec import Cell, Sweep
from bench.sweep.started import StartedSweep, started_names, started_sweeps
from methods.core.errors import MethodError

NO_SWEEP = "(no sweep)"
#: what the files and folders of a run directory are, by how their names begin; the first that fits counts
KINDS = {
    "weights": ("weights.safetensors", "best.safetensors", "backbone"),
    "checkpoints": ("checkpoint.pt",),
    "predictions": ("predictions", "predicted", "scores", "evaluations"),
    "put aside": ("attempt-", "aside."),
}
OTHER = "other"


@dataclass
class Usage:
    """The bytes of a folder by what they are for (KINDS), and what of it could not be looked at."""

    by_kind: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.by_kind.total()


def usage(folder: Path) -> Usage:
    """Measure a run directory without following links; a file with several names counts once for each."""
    measured = Usage()
    for path, entry in _walk(str(folder), measured.faults):
        name = os.path.relpath(path, folder).split(os.sep)[0]
        kind = next((kind for kind, starts in KINDS.items() if name.startswith(starts)), OTHER)
        try:
            measured.by_kind[kind] += entry.stat(follow_symlinks=False).st_size
        except OSError as error:
            measured.faults.append(one_line(error))
    return measured


def _walk(folder: str, faults: list[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        faults.append(one_line(error))
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, faults)
        else:
            yield entry.path, entry


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep that was started in a results folder, with its cells; ``fault`` says why these cannot be told."""

    key: str
    plan: StartedSweep | None = None
    cells: tuple[Cell, ...] = ()
    fault: str = ""


def planned_sweeps(results: Path) -> list[PlannedSweep]:
    """Return all sweeps that were started in a results folder; one whose plan cannot be read has a fault."""
    sweeps = []
    for name in started_names(results):
        try:
            plans = started_sweeps(results, name)
        except UsageError as fault:
            sweeps.append(PlannedSweep(name, fault=one_line(fault)))
            continue
        for plan in plans:
            try:
                sweeps.append(PlannedSweep(plan.key, plan, tuple(expand(plan.sweep))))
            except (UsageError, MethodError) as fault:  # such as of a plug-in that is not installed here
                sweeps.append(PlannedSweep(plan.key, plan, fault=one_line(fault)))
    return sweeps


def description(sweep: Sweep) -> str:
    """Say in a line what a sweep is: its question, or else its methods, suites, backbones and seeds."""
    methods = [*sweep.methods, *(variant.label for variant in sweep.variant)]
    parts = [
        _listed(methods, "methods"),
        _listed([name.rpartition("/")[2] for name in sweep.backbones], "backbones"),
        _listed(sweep.suites, "suites"),
        _listed(sweep.tasks, "tasks"),
        f"seeds {_listed(sweep.seeds, 'seeds')}",
        *(f"{key}={value}" for key, value in sweep.given.items()),
        *(f"{key}: {len(values)} values" for key, values in sweep.axes.items()),
    ]
    return sweep.question or ", ".join(part for part in parts if part)


def _listed(values: Any, noun: str) -> str:
    return " ".join(map(str, values)) if len(values) <= 3 else f"{len(values)} {noun}"


def inventory(results: Path) -> list[dict[str, Any]]:
    """Return a row for every sweep that was started in a results folder, and one for the runs that belong to none.

    A row has ``sweep, what, runs, states`` (state -> number of runs), ``bytes, started, command, note``. A run of
    several sweeps counts in each.
    """
    observer, rows = ClaimObserver(), []
    sizes = {name: usage(RunDir(results, name).path) for name in run_names(results)}
    left = dict.fromkeys(sizes)
    for planned in planned_sweeps(results):
        runs = {cell.run_id: cell.run for cell in planned.cells if cell.run}
        states: Counter[str] = Counter(state(results, run, observer).name for run in runs.values())
        if unsupported := sum(cell.run is None for cell in planned.cells):
            states["unsupported"] = unsupported
        row = _row(planned.key, description(planned.plan.sweep) if planned.plan else "", states)
        row["bytes"] = sum(sizes[name].total for name in runs if name in sizes)
        row["note"] = planned.fault
        if planned.plan:
            row |= {"started": planned.plan.started, "command": planned.plan.command}
        rows.append(row)
        for name in runs:
            left.pop(name, None)
    if left:
        row = _row(NO_SWEEP, "", Counter(stored_state(RunDir(results, name)).name for name in left))
        rows.append(row | {"bytes": sum(sizes[name].total for name in left)})
    return rows


def _row(key: str, what: str, states: Counter[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"sweep": key, "what": what, "runs": states.total(), "states": dict(states), "bytes": 0}
    return row | {"started": None, "command": None, "note": ""}
