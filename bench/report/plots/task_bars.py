"""Bars per task: every method on every task and the average, one panel a task, codes where a score is missing."""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes

from bench.report.figure import FAINT, INK, PAGE, Drawing, Plot, canvas, family_style, plot_label, text_colour_on
from bench.report.results import results_tables
from bench.report.run_entries import RunEntry
from bench.report.table import Table

ORDER = 2
LINE = 0.165  # inches for one method
TITLE = 13  # letters of a panel title that fit on a line


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot if there is at least one score: the results table as bars."""
    return [partial(_draw, table) for table in results_tables(entries) if _has_scores(table)]


def _has_scores(table: Table) -> bool:
    return any(value.mean is not None for row in table.rows for value in row.values[1:])


def _draw(table: Table) -> Plot:
    title = f"Score per task: {table.title}"
    columns = table.columns[1:]
    height = 0.95 + LINE * len(table.rows)
    figure, panels = canvas(PAGE, height, title, ncols=len(columns), sharey=True)
    for at, (axes, column) in enumerate(zip(panels, columns, strict=True)):
        _panel(axes, column.title, table, at + 1)
    panels[0].set_yticks(range(len(table.rows)), [plot_label(row.label) for row in table.rows])
    panels[0].set_ylim(len(table.rows) - 0.4, -0.6)
    alt = f"Horizontal bars of {len(table.rows)} methods on {', '.join(column.title for column in columns)}."
    return Plot(table.key.replace("results-", "tasks-"), title, alt, figure, _numbers(table))


def _panel(axes: Axes, title: str, table: Table, at: int) -> None:
    values = [row.values[at] for row in table.rows]
    means = [value.mean for value in values if value.mean is not None]
    high = 1.06 * max(means, default=1.0) or 1.0
    for line, (row, value) in enumerate(zip(table.rows, values, strict=True)):
        if value.mean is None:
            axes.text(0, line, f" {value.text}", va="center", fontsize=6, color="#b02a2a", style="italic")
            continue
        colour = FAINT if row.reference else family_style(row.family).colour
        axes.barh(line, value.mean, height=0.72, color=colour, xerr=value.std, error_kw={"elinewidth": 0.7})
        weight = "bold" if value.rank == 1 else "normal"
        inside = value.mean > 0.5 * high  # a short bar has no room for its number
        x = 0.02 * high if inside else value.mean + (value.std or 0) + 0.03 * high
        ink = text_colour_on(colour) if inside else INK
        axes.text(x, line, value.text + value.marks, va="center", fontsize=6, fontweight=weight, color=ink)
    axes.set(xlim=(0, high))
    axes.set_title(fill(title, TITLE), fontsize=7.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", nbins=3)


def _numbers(table: Table) -> pd.DataFrame:
    rows = [
        {
            "method": row.label,
            "task": column.key,
            "mean": value.mean,
            "std": value.std,
            "n": value.n,
            "code": value.text,
            "run_ids": " ".join(row.run_ids),
        }
        for row in table.rows
        for column, value in zip(table.columns[1:], row.values[1:], strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(code=frame["code"].where(frame["mean"].isna(), ""))
