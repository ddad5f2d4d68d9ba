"""Average score against the trainable share, with the line of methods that no cheaper one beats.

Up to NAMED methods are named beside their points; of more, only those on the line are, and all are numbered in a key.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatterSciNotation

from bench.report.figure import (
    COLUMN,
    FAINT,
    LONGEST,
    PAGE,
    Drawing,
    Plot,
    canvas,
    family_style,
    legend_text,
    plot_label,
)
from bench.report.label_placement import beside_points
from bench.report.run_entries import RunEntry
from bench.report.stats import finite_only, mean, sample_std
from bench.report.table import entries_by_label, run_ids_of, slug, title_of
from bench.report.task_columns import task_order

ORDER = 1
NAMED = 14  # up to so many methods are named beside their points
MANY = 30  # more methods have a higher plot
LETTER = 6.5  # font size of names and numbers


class _PlainLogFormatter(LogFormatterSciNotation):
    """Labels the ticks that matplotlib would label, as plain numbers: no text of a plot is mathematics."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot if there is at least one complete average."""
    points = _points(entries)
    return [] if points.empty else [partial(_draw, entries, points)]


def _points(entries: Sequence[RunEntry]) -> pd.DataFrame:
    """Return a row per method: trainable share, average with its spread, and whether no cheaper method beats it."""
    rows, run_ids, tasks = [], [], task_order(entries)
    for label, seeds in entries_by_label(entries).items():
        scores = finite_only(entry.average(tasks) for entry in seeds)
        shares = [share for entry in seeds if (share := entry.measured.get("percent", 0.0)) > 0]
        if scores and shares:
            row = {
                "method": label,
                "family": seeds[0].family,
                "percent": shares[0],
                "average": mean(scores),
            }
            rows.append({**row, "std": sample_std(scores), "n": len(scores)})
            run_ids.append(" ".join(run_ids_of(seeds)))
    table = pd.DataFrame(rows, columns=["method", "family", "percent", "average", "std", "n"])
    compared = table[table["family"] != "reference"]
    best_so_far = compared.sort_values(["percent", "average"], ascending=[True, False])["average"].cummax()
    table["pareto"] = table["average"] >= best_so_far.reindex(table.index)  # False for a reference, which has no number
    return table.assign(run_ids=run_ids).astype({"std": float})


def _score_title(points: pd.DataFrame) -> str:
    return "Average score ± s.d. of seeds" if points["std"].notna().any() else "Average score"


def _draw(entries: Sequence[RunEntry], points: pd.DataFrame) -> Plot:
    title = f"Average score against trainable parameters: {title_of(entries)}"
    numbered = len(points) > NAMED
    key = _key_rows(points) if numbered else []
    key_lines = -(-len(key) // _key_columns(points)) if numbered else 0
    width = COLUMN if len(points) <= 4 else PAGE
    height = (2.6 if width == COLUMN else 3.6 if len(points) <= MANY else 4.8) + 0.145 * key_lines
    figure, (axes, *_) = canvas(width, height, title, nrows=1 + numbered, **_ratios(numbered, height, key_lines))
    _frontier(axes, points)
    for family, members in points.groupby("family", sort=False):
        style = family_style(str(family))
        axes.errorbar(
            *(members["percent"], members["average"]),
            yerr=members["std"].where(members["std"].notna(), 0.0) if members["std"].notna().any() else None,
            **{"fmt": style.marker, "color": style.colour, "markersize": 6.5 if style.marker == "*" else 4.6},
            **{"elinewidth": 0.8, "capsize": 1.5, "markeredgecolor": "white", "markeredgewidth": 0.4},
            label=legend_text(str(family)),
        )
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.set(xlabel="Trainable parameters (% of all, log scale)", ylabel=_score_title(points))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(_PlainLogFormatter())
    handles = [line for line in axes.lines if line.get_label() == "Pareto line"] if numbered else None
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3 if width == COLUMN else 6, frameon=False,
                columnspacing=1.0, handletextpad=0.2, handles=handles)  # fmt: skip
    if numbered:
        _key(figure.axes[1], key, _key_columns(points), key_lines)
    texts = [
        plot_label(name) if best or not numbered else str(at + 1)
        for at, (name, best) in enumerate(zip(points["method"], points["pareto"], strict=True))
    ]
    beside_points(
        figure, axes, list(zip(points["percent"], points["average"], strict=True)), texts, size=LETTER, marker=3.2
    )
    best = points.iloc[int(points["average"].argmax())]
    peak = f"{best['average']:.2f} by {best['method']} at {best['percent']:.2f} %"
    alt = f"{len(points)} methods; the highest average is {peak}."
    return Plot(slug("tradeoff", entries[0].backbone, entries[0].suite), title, alt, figure, points)


def _ratios(numbered: bool, height: float, lines: int) -> dict[str, Any]:
    return {"height_ratios": [height - 0.145 * lines - 0.5, 0.145 * lines]} if numbered else {}


def _frontier(axes: Axes, points: pd.DataFrame) -> None:
    frontier = points[points["pareto"]].sort_values("percent")
    axes.plot(
        frontier["percent"],
        frontier["average"],
        color=FAINT,
        linewidth=0.9,
        linestyle="--",
        drawstyle="steps-post",  # no method between two of them is promised
        zorder=1,
        label="Pareto line",
    )


def _key_columns(points: pd.DataFrame) -> int:
    """How many columns of the longest name fit; a letter is 0.055 in wide, marker and number take six letters."""
    return max(1, int(PAGE / (0.055 * (min(LONGEST, points["method"].str.len().max()) + 6))))


def _key_rows(points: pd.DataFrame) -> list[tuple[int, str, str, bool]]:
    """The lines of the key (number, name, family, bold): the head of a family with number 0, then its methods."""
    rows: list[tuple[int, str, str, bool]] = []
    pairs = zip(points["method"], points["family"], points["pareto"], strict=True)
    for number, (method, family, best) in enumerate(pairs, start=1):
        if not rows or rows[-1][2] != family:
            rows.append((0, family, family, True))
        rows.append((number, method, family, bool(best)))
    return rows


def _key(axes: Axes, rows: Sequence[tuple[int, str, str, bool]], columns: int, lines: int) -> None:
    """The numbered list of methods, column by column, under the names of their families."""
    axes.set_axis_off()
    axes.set(xlim=(0, columns), ylim=(lines, 0))
    for at, (number, name, family, bold) in enumerate(rows):
        column, line = divmod(at, lines)
        style = family_style(family)
        if number:
            axes.plot(column + 0.02, line + 0.5, style.marker, color=style.colour, markersize=4, clip_on=False)
        weight = "bold" if bold else "normal"
        words = f"{number}  {plot_label(name)}" if number else plot_label(name)
        text = axes.text(
            column + 0.06 * bool(number), line + 0.5, words, fontsize=LETTER, va="center", fontweight=weight
        )
        text.set_in_layout(False)
