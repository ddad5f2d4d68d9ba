"""A critical-difference diagram: mean ranks over tasks with intervals, and bars over rows that are level.

The form is that of Demsar (Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006). Which rows are
joined is decided by the paired test of :mod:`bench.report.standing`, for ranks on a handful of tasks decide nothing.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from bench.report.figure import FAINT, INK, PAGE, Drawing, Plot, canvas, family_style, plot_label
from bench.report.run_entries import RunEntry
from bench.report.standing import MEAN_RANK, STANDARDISED, Standing
from bench.report.table import run_ids_of, slug, title_of

ORDER = 0
LINE = 0.165  # inches for one row
BAR = 0.025  # of the width of all ranks for one bar


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot for a plain sweep with several tasks and at least two ranked rows with all scores."""
    plain = [entry for entry in entries if not entry.base and not entry.tuning]
    standing = Standing.of(plain) if plain else None
    return [partial(_draw, standing, plain)] if standing and standing.mean_ranks else []


def level_runs(standing: Standing, order: Sequence[str]) -> list[tuple[int, int]]:
    """Return the longest stretches of rows, in order of their mean rank, in which no two rows can be told apart.

    A stretch is given by the positions of its first and last row; it has at least two.
    """
    stretches: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and all(
            standing.comparisons.level(STANDARDISED, order[last + 1], other) for other in order[first : last + 1]
        ):
            last += 1
        if last > first and (not stretches or last > stretches[-1][1]):
            stretches.append((first, last))
    return stretches


def _draw(standing: Standing, entries: Sequence[RunEntry]) -> Plot:
    ranks = standing.mean_ranks
    order = sorted(ranks, key=lambda label: ranks[label].value)
    title = f"Mean rank over {len(standing.tasks)} tasks: {title_of(entries)}"
    figure, (axes, *_) = canvas(PAGE, 0.75 + LINE * len(order), title)
    best = standing.level_with_best(MEAN_RANK)
    for line, label in enumerate(order):
        style = family_style(standing.rows[label][0].family)
        low, high = ranks[label].interval or (ranks[label].value, ranks[label].value)
        axes.plot([low, high], [line, line], color=style.colour, linewidth=1.1)
        axes.plot(ranks[label].value, line, style.marker, color=style.colour, markersize=5, markeredgecolor="white",
                  markeredgewidth=0.4)  # fmt: skip
    stretches = level_runs(standing, order)
    edge, step = 1 + 1.04 * (len(order) - 1), BAR * (len(order) - 1)
    columns = _columns(stretches)
    for (first, last), column in zip(stretches, columns, strict=True):
        x = edge + step * column
        axes.plot([x, x], [first - 0.25, last + 0.25], color=INK, linewidth=2.2, solid_capstyle="butt")
    axes.set_yticks(range(len(order)), [plot_label(label) for label in order])
    for tick, label in zip(axes.get_yticklabels(), order, strict=True):
        tick.set_fontweight("bold" if label in best else "normal")
    axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(1 - step, edge + step * (max(columns, default=0) + 1)))
    axes.set_xlabel("Mean rank (1 is best); bars at the right join rows that cannot be told apart")
    axes.set_xticks([tick for tick in axes.get_xticks() if 1 <= tick <= len(order) and tick == int(tick)])
    axes.axvline(1, color=FAINT, linewidth=0.6, zorder=0)
    axes.tick_params(length=0)
    alt = f"{order[0]} has the best mean rank; {len(best)} of {len(order)} rows cannot be told apart from the best."
    return Plot(slug("ranks", entries[0].backbone, entries[0].suite), title, alt, figure, _numbers(standing, order))


def _columns(stretches: Sequence[tuple[int, int]]) -> list[int]:
    """The column of every bar, the first in which no other bar is in its way."""
    ends: list[int] = []
    columns = []
    for first, last in stretches:
        column = next((at for at, end in enumerate(ends) if end < first), len(ends))
        ends[column : column + 1] = [last]
        columns.append(column)
    return columns


def _numbers(standing: Standing, order: Sequence[str]) -> pd.DataFrame:
    best = standing.level_with_best(MEAN_RANK)
    rows = [
        {
            "method": label,
            "mean_rank": standing.mean_ranks[label].value,
            "low": (standing.mean_ranks[label].interval or (None, None))[0],
            "high": (standing.mean_ranks[label].interval or (None, None))[1],
            "level_with_best": label in best,
            "run_ids": " ".join(run_ids_of(standing.rows[label])),
        }
        for label in order
    ]
    return pd.DataFrame(rows)
