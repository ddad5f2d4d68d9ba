"""Planned cells joined with what the records say: the one view that tables, plots and the page are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.report.families import UNKNOWN

CODES = {"oom": "OOM", "nan": "NaN"}  # other causes are printed as they are written: timeout, interrupted, error ...


@dataclass(frozen=True)
class ScoreCell:
    """One planned run on one task: a score in table units, or the code that says why there is none."""

    task: str
    score: float | None
    code: str
    metric: str | None
    split: str | None


@dataclass(frozen=True)
class RunEntry:
    """One planned run: its cells in planned order and what was measured on it (None where nothing was).

    In an ablation ``base`` is the label of the entry that differences refer to, ``point`` the values on the axes and
    ``plot`` how the differences are drawn; ``examples`` holds, by task, the score of each example by its id.
    """

    run_id: str
    label: str
    method: str
    family: str
    backbone: str
    suite: str
    seed: int
    cells: tuple[ScoreCell, ...]
    data: str | None
    synthetic: bool
    limited: bool
    tuning: bool
    hardware: str | None
    precision: str | None
    batch_size: int | None
    finished: str | None
    measured: Mapping[str, float] = field(default_factory=dict)
    base: str = ""
    point: Mapping[str, Any] = field(default_factory=dict)
    plot: str | None = None
    examples: Mapping[str, pd.Series] = field(default_factory=dict)

    @property
    def conditions(self) -> str:
        """What time and memory depend on besides the method: figures compare only where this is the same."""
        batch = f"batch size {self.batch_size:g}" if self.batch_size else ""
        return ", ".join(part for part in (self.hardware or "unknown hardware", self.precision, batch) if part)

    @property
    def timed(self) -> bool:
        """Whether the training ended well, so that its time and memory are those of a whole run."""
        return any(cell.score is not None for cell in self.cells) and "step_seconds" in self.measured

    def score(self, task: str) -> float | None:
        """The score on a task, None where there is none."""
        return next((cell.score for cell in self.cells if cell.task == task), None)

    @property
    def code(self) -> str:
        """The first reason for a missing score, or "" if every task has one."""
        return next((cell.code for cell in self.cells if cell.code), "")

    @property
    def average(self) -> float | None:
        """Mean of the task scores, or None as soon as one of them is missing."""
        scores = [cell.score for cell in self.cells if cell.score is not None]
        return sum(scores) / len(scores) if scores and len(scores) == len(self.cells) else None


MEASURED = (
    *("trainable", "total", "percent", "train_seconds", "step_seconds", "samples_per_second"),
    *("peak_memory_bytes", "host_memory_bytes"),
    *("analytic_weights", "analytic_trainable", "analytic_gradients", "analytic_optimizer", "analytic_activations"),
)


Examples = Mapping[str, Mapping[str, pd.Series]]


def join(df: pd.DataFrame, plan: Sequence[Mapping[str, Any]], examples: Examples | None = None) -> tuple[RunEntry, ...]:
    """Give every planned run its scores, measurements and failure codes.

    ``df`` is the tidy frame of the records (one row per run and task), ``plan`` the cells of the sweep in their order
    (``run_id, method, backbone, suite, seed, status, cause, tasks, label``; of an ablation also ``base, point, plot``).
    An empty plan stands for all runs of ``df``; runs outside the plan are left out. ``examples`` maps run ids and tasks
    to the scores of single examples by their ids, where they are known.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for record in df.astype(object).to_dict("records"):
        rows.setdefault(record["run_id"], {})[record["task"]] = {
            str(key): _given(value) for key, value in record.items()
        }
    cells = plan or [_planned(by_task) for by_task in rows.values()]
    known = examples or {}
    return tuple(_entry(cell, rows.get(cell["run_id"], {}), known.get(cell["run_id"], {})) for cell in cells)


def _given(value: Any) -> Any:
    """None for the several ways in which pandas writes that there is no value."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _planned(by_task: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    row = next(iter(by_task.values()))
    return {**row, "tasks": list(by_task)}


def _entry(
    cell: Mapping[str, Any], by_task: Mapping[str, Mapping[str, Any]], examples: Mapping[str, pd.Series]
) -> RunEntry:
    row = next(iter(by_task.values()), {})
    return RunEntry(
        run_id=cell["run_id"],
        label=cell.get("label") or cell["method"],
        method=cell["method"],
        family=cell.get("family") or row.get("family") or UNKNOWN,
        backbone=cell["backbone"],
        suite=cell["suite"],
        seed=int(cell["seed"]),
        cells=tuple(_cell(task, by_task.get(task), cell) for task in cell["tasks"]),
        data=row.get("data"),
        synthetic=bool(row.get("synthetic")),
        limited=bool(row.get("limited")),
        tuning=bool(row.get("tuning")),
        hardware=row.get("hardware"),
        precision=row.get("precision"),
        batch_size=row.get("batch_size"),
        finished=row.get("finished"),
        measured={key: float(row[key]) for key in MEASURED if row.get(key) is not None},
        base=cell.get("base") or "",
        point=cell.get("point") or {},
        plot=cell.get("plot"),
        examples=examples,
    )


def _cell(task: str, row: Mapping[str, Any] | None, planned: Mapping[str, Any]) -> ScoreCell:
    if row is None:  # no record: the plan knows whether it failed, still runs, or never started
        status = planned.get("status") or "missing"
        cause = planned.get("cause") or ("missing" if status == "done" else status)
        return ScoreCell(task, None, CODES.get(cause, cause), None, None)
    score = row.get("score")
    cause = row.get("cause") or planned.get("cause") or ("nan" if row.get("status") == "done" else "error")
    code = "" if score is not None else CODES.get(cause, cause)
    return ScoreCell(task, score, code, row.get("metric"), row.get("split"))
