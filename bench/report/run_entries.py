"""Planned runs joined with their records: the one view from which tables, plots and the page are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.report.families import UNKNOWN

CODES = {"oom": "OOM", "nan": "NaN"}  # other causes are printed as they are written: timeout, interrupted, error ...
MEASURED = (
    *("trainable", "total", "percent", "train_seconds", "step_seconds", "samples_per_second"),
    *("peak_memory_bytes", "host_memory_bytes"),
    *("analytic_weights", "analytic_trainable", "analytic_gradients", "analytic_optimizer", "analytic_activations"),
)

Examples = Mapping[str, Mapping[str, pd.Series]]
"""Scores of single examples: by run id and task a series indexed by the ids of the examples."""


@dataclass(frozen=True)
class ScoreCell:
    """One planned run on one task: a score in the unit that tables print, or the code that says why there is none.

    ``label`` is the task's name in column titles; ``metric`` and ``split`` are "" where neither the plan nor a record
    names them.
    """

    task: str
    label: str
    score: float | None
    code: str
    metric: str
    split: str


@dataclass(frozen=True)
class RunEntry:
    """One planned run with its cells in planned order and whatever was measured on it.

    Attributes:
        family: family of the method, which decides colour, marker and the place in long tables.
        data, synthetic: name of the data root, and whether its data is generated.
        limited: whether the run was cut short for a try-out.
        tuning: whether the run was scored on what tuning may look at instead of what tables report.
        finished: when the run ended, ISO 8601 in UTC.
        measured: the measurements named in MEASURED (counts, percent, seconds, bytes), without those that are missing.
        base: in an ablation, the label of the entry that differences refer to; "" elsewhere.
        point: in an ablation, the values of the run on the axes.
        plot: in an ablation, how the differences should be drawn ("curve", "heatmap", "bars").
        examples: by task, the score of every single example, indexed by the example's id.
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
        """What time and memory depend on besides the method; they compare only between runs for which this is equal."""
        batch = f"batch size {self.batch_size:g}" if self.batch_size else ""
        return ", ".join(part for part in (self.hardware or "unknown hardware", self.precision, batch) if part)

    @property
    def timed(self) -> bool:
        """Whether the training ran to its end, so that time and memory are those of a complete run."""
        return any(cell.score is not None for cell in self.cells) and "step_seconds" in self.measured

    def score(self, task: str) -> float | None:
        """Return the score on a task, None where there is none."""
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


def join(df: pd.DataFrame, plan: Sequence[Mapping[str, Any]], examples: Examples | None = None) -> tuple[RunEntry, ...]:
    """Give every planned run its scores, measurements and failure codes.

    Args:
        df: the tidy frame of the records, one row per run and task (``bench.load_results``).
        plan: the cells of the sweep in their order, each with ``run_id, method, label, backbone, suite, seed, tasks``,
            ``status`` and ``cause``, ``family``, and by task ``task_labels``, ``metrics`` and ``splits``; in an
            ablation also with ``base, point, plot``. An empty plan stands for all runs of ``df``; otherwise runs
            outside the plan are left out.
        examples: the scores of single examples, where they are known.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for record in df.astype(object).to_dict("records"):
        row = {str(key): _none_if_missing(value) for key, value in record.items()}
        rows.setdefault(record["run_id"], {})[record["task"]] = row
    cells = plan or [{**next(iter(by_task.values())), "tasks": list(by_task)} for by_task in rows.values()]
    by_run = examples or {}
    return tuple(_entry(cell, rows.get(cell["run_id"], {}), by_run.get(cell["run_id"], {})) for cell in cells)


def _none_if_missing(value: Any) -> Any:
    """None for the several ways in which pandas writes that there is no value."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _entry(
    planned: Mapping[str, Any], by_task: Mapping[str, Mapping[str, Any]], examples: Mapping[str, pd.Series]
) -> RunEntry:
    row = next(iter(by_task.values()), {})
    return RunEntry(
        run_id=planned["run_id"],
        label=planned.get("label") or planned["method"],
        method=planned["method"],
        family=planned.get("family") or row.get("family") or UNKNOWN,
        backbone=planned["backbone"],
        suite=planned["suite"],
        seed=int(planned["seed"]),
        cells=tuple(_cell(task, by_task.get(task, {}), planned) for task in planned["tasks"]),
        data=row.get("data"),
        synthetic=bool(row.get("synthetic")),
        limited=bool(row.get("limited")),
        tuning=bool(row.get("tuning")),
        hardware=row.get("hardware"),
        precision=row.get("precision"),
        batch_size=row.get("batch_size"),
        finished=row.get("finished"),
        measured={key: float(row[key]) for key in MEASURED if row.get(key) is not None},
        base=planned.get("base") or "",
        point=planned.get("point") or {},
        plot=planned.get("plot"),
        examples=examples,
    )


def _cell(task: str, row: Mapping[str, Any], planned: Mapping[str, Any]) -> ScoreCell:
    """Make the cell of one task; ``row`` is the task's row of the frame, empty where the run has no record."""
    score = row.get("score")
    cause = _cause(row, planned)
    return ScoreCell(
        task=task,
        label=(planned.get("task_labels") or {}).get(task) or row.get("task_label") or task,
        score=score,
        code="" if score is not None else CODES.get(cause, cause),
        metric=row.get("metric") or (planned.get("metrics") or {}).get(task) or "",
        split=row.get("split") or (planned.get("splits") or {}).get(task) or "",
    )


def _cause(row: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    """Why there is no score: as the record says, else as the plan says of a run that failed, runs or never started."""
    if row:
        return row.get("cause") or planned.get("cause") or ("nan" if row.get("status") == "done" else "error")
    status = planned.get("status") or "missing"
    return planned.get("cause") or ("missing" if status == "done" else status)
