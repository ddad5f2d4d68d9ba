"""Planned runs joined with their records: the one view from which tables, plots and the page are made."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import pandas as pd

from bench.report.escaping import printable
from bench.report.families import UNKNOWN
from bench.report.stats import mean
from bench.states import CAUSES

IDENTITY = ("run_id", "method", "backbone", "suite", "seed", "task")  # without one of these a row tells nothing
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


@dataclass(frozen=True, eq=False)
class RunEntry:
    """One planned run with its cells in planned order and whatever was measured on it.

    Attributes:
        family: family of the method, which decides colour, marker and the place in long tables.
        configuration: what was run, besides backbone, suite and seed: method options, recipe fields, tasks and data by
            name, each as text. Empty where neither the plan nor a record tells.
        fingerprint: of the files and the method that the run was made of; None where it is not recorded.
        stale: whether the run was made of other data or weights than there are now.
        data, synthetic: name of the data root, and whether its data is generated.
        limited: whether the run was cut short for a try-out, or was on a part of the published data.
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
    batch_size: float | None
    finished: str | None
    configuration: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str | None = None
    stale: bool = False
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

    def average(self, tasks: Sequence[str]) -> float | None:
        """Return the mean of the scores on these tasks, the columns of a table; None if one of them is missing."""
        scores = [score for task in tasks if (score := self.score(task)) is not None]
        return mean(scores) if scores and len(scores) == len(tasks) else None

    def lacks(self, tasks: Sequence[str]) -> bool:
        """Whether the run was not planned on all of these tasks, so that it can have no average over them."""
        return not {cell.task for cell in self.cells}.issuperset(tasks)


def join(df: pd.DataFrame, plan: Sequence[Mapping[str, Any]], examples: Examples | None = None) -> tuple[RunEntry, ...]:
    """Give every planned run its scores, measurements and failure codes.

    This is where numbers and text enter a report: a score or measurement that is no finite number is taken as missing,
    and all text is made printable (:func:`bench.report.escaping.printable`). Rows of ``df`` that lack one of IDENTITY
    are left out with a warning.

    Args:
        df: the tidy frame of the records, one row per run and task (``bench.load_results``).
        plan: the cells of the sweep in their order, each with ``run_id, method, label, backbone, suite, seed, tasks``,
            ``status`` and ``cause``, ``family``, ``configuration``, and by task ``task_labels``, ``metrics`` and
            ``splits``; in an ablation also with ``base, point, plot``. An empty plan stands for all runs of ``df``;
            otherwise runs outside the plan are left out.
        examples: the scores of single examples, where they are known.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for record in df.astype(object).to_dict("records"):
        row = {str(key): _none_if_missing(value) for key, value in record.items()}
        if missing := [key for key in IDENTITY if row.get(key) is None and (key in ("run_id", "task") or not plan)]:
            warnings.warn(f"result left out: run {row.get('run_id')} has no {missing[0]}", stacklevel=2)
            continue
        rows.setdefault(row["run_id"], {})[row["task"]] = row
    cells = plan or [{**next(iter(by_task.values())), "tasks": list(by_task)} for by_task in rows.values()]
    by_run = examples or {}
    return tuple(_entry(cell, rows.get(cell["run_id"], {}), by_run.get(cell["run_id"], {})) for cell in cells)


def _none_if_missing(value: Any) -> Any:
    """None for the several ways in which pandas writes that there is no value."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def finite(value: Any) -> float | None:
    """Return a value as a finite number, or None where it is none: missing, NaN, infinite, or no number at all."""
    try:
        number = None if value is None or isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and isfinite(number) else None


def _text(value: Any) -> str | None:
    return None if value is None else printable(value)


def configuration(overrides: Any, settings: Any, **further: Any) -> dict[str, str]:
    """Return what was run as text by name, from the method's options, the fields of the recipe and further facts.

    The first two are mappings or JSON objects; one that is neither tells nothing. The name of the recipe is left out,
    for it changes nothing.
    """
    fields: dict[str, Any] = {}
    for part in (settings, overrides):
        try:
            content = json.loads(part) if isinstance(part, str) else part
        except (ValueError, RecursionError):
            continue
        fields |= content if isinstance(content, Mapping) else {}
    fields.pop("name", None)
    fields |= {key: value for key, value in further.items() if value is not None}
    return {printable(key): printable(_written(value)) for key, value in fields.items()}


def _written(value: Any) -> str:
    """The value of a setting as it is written on the command line."""
    if isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value):
        return "+".join(value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _configuration(planned: Mapping[str, Any], row: Mapping[str, Any], by_task: Mapping[str, Any]) -> Mapping[str, str]:
    if planned.get("configuration"):
        return {printable(key): printable(value) for key, value in planned["configuration"].items()}
    if not row or "settings" not in row:
        return {}
    return configuration(
        row.get("overrides"), row.get("settings"), method=row.get("method"), tasks=list(by_task), data=row.get("data")
    )


def _entry(
    planned: Mapping[str, Any], by_task: Mapping[str, Mapping[str, Any]], examples: Mapping[str, pd.Series]
) -> RunEntry:
    row = next(iter(by_task.values()), {})
    return RunEntry(
        run_id=printable(planned["run_id"]),
        label=printable(planned.get("label") or planned["method"]),
        method=printable(planned["method"]),
        family=printable(planned.get("family") or row.get("family") or UNKNOWN),
        backbone=printable(planned["backbone"]),
        suite=printable(planned["suite"]),
        seed=int(planned["seed"]),
        cells=tuple(_cell(task, by_task.get(task, {}), planned) for task in planned["tasks"]),
        configuration=_configuration(planned, row, by_task),
        fingerprint=_text(row.get("fingerprint")),
        stale=bool(row.get("stale")),
        data=_text(row.get("data")),
        synthetic=bool(row.get("synthetic")),
        limited=bool(row.get("limited")),
        tuning=bool(row.get("tuning")),
        hardware=_text(row.get("hardware")),
        precision=_text(row.get("precision")),
        batch_size=finite(row.get("batch_size")),
        finished=_text(row.get("finished")),
        measured={key: number for key in MEASURED if (number := finite(row.get(key))) is not None},
        base=printable(planned.get("base") or ""),
        point={k: printable(v) if isinstance(v, str) else v for k, v in (planned.get("point") or {}).items()},
        plot=planned.get("plot"),
        examples=examples,
    )


def _cell(task: str, row: Mapping[str, Any], planned: Mapping[str, Any]) -> ScoreCell:
    """Make the cell of one task; ``row`` is the task's row of the frame, empty where the run has no record."""
    score = finite(row.get("score"))
    cause = printable(_cause(row, planned))
    return ScoreCell(
        task=printable(task),
        label=printable((planned.get("task_labels") or {}).get(task) or row.get("task_label") or task),
        score=score,
        code="" if score is not None else CAUSES[cause].code if cause in CAUSES else cause,
        metric=printable(row.get("metric") or (planned.get("metrics") or {}).get(task) or ""),
        split=printable(row.get("split") or (planned.get("splits") or {}).get(task) or ""),
    )


def _cause(row: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    """Why there is no score: as the record says, else as the plan says of a run that failed, runs or never started."""
    if row:
        return row.get("cause") or planned.get("cause") or ("nan" if row.get("status") == "done" else "error")
    status = planned.get("status") or "missing"
    return planned.get("cause") or ("missing" if status == "done" else status)
