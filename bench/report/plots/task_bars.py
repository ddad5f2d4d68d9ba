"""Dots per task: every method on every task and the average with its interval; codes where a score is missing."""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes

from bench.report.figure import PAGE, Drawing, Plot, canvas, family_style, plot_label
from bench.report.results import results_tables
from bench.report.run_entries import RunEntry
from bench.report.table import Table

ORDER = 2
LINE = 0.165  # inches for one method
TITLE = 13  # letters of a panel title that fit on a line


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot if there is at least one score: the results table as dots with intervals."""
    return [partial(_draw, table) for table in results_tables(entries) if _has_scores(table)]


def _has_scores(table: Table) -> bool:
    return any(value.mean is not None for row in table.rows for value in row.values[1:])


def _draw(table: Table) -> Plot:
    title = f"Score per task: {table.title}"
    columns = table.columns[1:]
    height = 1.15 + LINE * len(table.rows)
    figure, panels = canvas(PAGE, height, title, ncols=len(columns), sharey=True)
    for at, (axes, column) in enumerate(zip(panels, columns, strict=True)):
        _panel(axes, column.title, table, at + 1)
    panels[0].set_yticks(range(len(table.rows)), [plot_label(row.label) for row in table.rows])
    panels[0].set_ylim(len(table.rows) - 0.4, -0.6)
    spread = any(value.interval for row in table.rows for value in row.values)
    meaning = "Lines are 95% intervals; filled: cannot be told apart from the best. " if spread else ""
    if meaning:
        figure.supxlabel(meaning.strip(), fontsize=6.5)
    alt = f"{meaning}{len(table.rows)} methods on {', '.join(column.title.rstrip('.') for column in columns)}."
    return Plot(table.key.replace("results-", "tasks-"), title, alt, figure, _numbers(table))


def _panel(axes: Axes, title: str, table: Table, at: int) -> None:
    values = [row.values[at] for row in table.rows]
    ends = [end for value in values if value.mean is not None for end in value.interval or (value.mean, value.mean)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.08 * (high - low) or 1.0
    low, high = low - room, high + room
    for line, (row, value) in enumerate(zip(table.rows, values, strict=True)):
        if value.mean is None:
            axes.text(low, line, f" {value.text}", va="center", fontsize=6, color="#b02a2a", style="italic")
            continue
        style = family_style(row.family)
        if value.interval:
            axes.plot(value.interval, [line, line], color=style.colour, linewidth=1.0)
        face = style.colour if value.rank == 1 or not any(each.rank for each in values) else "white"
        axes.plot(value.mean, line, style.marker, color=style.colour, markerfacecolor=face, markersize=4.2)
    axes.set(xlim=(low, high))
    axes.set_title(fill(title, TITLE), fontsize=7.5)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", nbins=3)


def _numbers(table: Table) -> pd.DataFrame:
    rows = [
        {
            "method": row.label,
            "task": column.key,
            "mean": value.mean,
            "low": value.interval[0] if value.interval else None,
            "high": value.interval[1] if value.interval else None,
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
