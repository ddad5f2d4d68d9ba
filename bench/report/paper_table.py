"""Published scores and ours as a table: for each method a row of the paper's, a row of ours, and their difference."""

from math import sqrt
from typing import Any

import pandas as pd

from bench.report.paper_comparison import AVERAGE, PaperComparison
from bench.report.stats import rank_marks
from bench.report.table import REFERENCE, Column, Table, TableRow, Value, slug

OUTSIDE = "*"
NOTE = (
    f"±: the sample standard deviation over seeds; of a difference, twice the joint one of both. {OUTSIDE}: outside of "
    "that; all other differences are inside. Bold: best of the column among the rows of the paper or among ours, "
    "underlined: second best; full: a reference row."
)
AVERAGE_TITLE = "Avg."


def paper_tables(comparison: PaperComparison, labels: dict[str, str]) -> list[Table]:
    """Return a table for each backbone and suite, empty where nothing can be compared.

    Args:
        comparison: the scores, as :func:`bench.report.paper_comparison.compare_with_paper` returns them.
        labels: what columns call the tasks.
    """
    groups = comparison.table.groupby(["backbone", "suite"], sort=False)
    return [_table(scores, labels) for _, scores in groups]


def _table(scores: pd.DataFrame, labels: dict[str, str]) -> Table:
    backbone, suite = (str(scores[name].iloc[0]) for name in ("backbone", "suite"))
    tasks = list(dict.fromkeys(scores["task"]))
    columns = tuple(Column(task, AVERAGE_TITLE if task == AVERAGE else labels.get(task, task), +1) for task in tasks)
    rows = scores.groupby(["method", "settings"], sort=False)
    names = [f"{method} [{settings}]" if settings else str(method) for (method, settings), _ in rows]
    cells: list[dict[str, dict[Any, Any]]] = [{c["task"]: c for c in row.to_dict("records")} for _, row in rows]
    ranks = {
        (kind, task): rank_marks([_rankable(row, task, kind) for row in cells], better=+1)
        for kind in ("paper", "ours")
        for task in tasks
    }
    made = []
    for at, (name, row) in enumerate(zip(names, cells, strict=True)):
        for kind in ("paper", "ours"):
            values = tuple(_score(row.get(task), kind, ranks[kind, task][at]) for task in tasks)
            made.append(TableRow(f"{name}: {kind}", "", values, (), _is_reference(row)))
        made.append(TableRow(f"{name}: difference", "", tuple(_difference(row.get(task)) for task in tasks), ()))
    title = f"{backbone}, {suite}: published scores and ours"
    count = sorted({int(n) for n in scores["n"]})
    seeds = f"{count[0]}" if len(count) == 1 else f"{count[0]} to {count[-1]}"
    caption = f"{title}, over {seeds} seeds of ours."
    return Table(slug("paper", backbone, suite), title, caption, columns, tuple(made), (NOTE,))


def _is_reference(row: dict[str, dict[Any, Any]]) -> bool:
    return all(cell["method"] == REFERENCE for cell in row.values())


def _rankable(row: dict[str, dict[Any, Any]], task: str, kind: str) -> float | None:
    return None if task not in row or _is_reference(row) else float(row[task][kind])


def _score(cell: dict[Any, Any] | None, kind: str, rank: int) -> Value:
    if cell is None:
        return Value("n/a")
    mean, std = float(cell[kind]), float(cell[f"{kind}_std"])
    spread = "" if std != std else f"{std:.2f}"
    seeds = int(cell["n"]) if kind == "ours" else 0
    return Value(f"{mean:.2f}", spread, rank, mean=mean, std=std if spread else None, n=seeds)


def _difference(cell: dict[Any, Any] | None) -> Value:
    if cell is None:
        return Value("n/a")
    delta = float(cell["delta"])
    joint = 2 * sqrt(sum(std**2 for std in (float(cell["ours_std"]), float(cell["paper_std"])) if std == std))
    marks = "" if cell["agrees"] else OUTSIDE
    return Value(f"{delta:+.2f}".replace("-", "−"), f"{joint:.2f}", 0, marks, mean=delta)
