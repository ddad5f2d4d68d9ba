"""Bars of an ablation: how each cell differs from its base, with intervals; a panel per task, one for the average."""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes

from bench.report.differences import DOWN, NO_PAIR, UP, Ablation, ablations, leader_comparisons
from bench.report.figure import FAINT, INK, PAGE, Drawing, Plot, canvas, family_style, plot_label
from bench.report.run_entries import RunEntry
from bench.report.table import run_ids_of, title_of

ORDER = 7
LINE = 0.185  # inches for one cell
TITLE = 13  # letters of a panel title that fit on a line
GAIN, LOSS = family_style("adapter").colour, family_style("enhanced").colour


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return one plot per base whose cells are neither on a curve nor on a map, and one per leading row of a sweep."""
    compared = [*(each for each in ablations(entries) if each.plot == "bars"), *leader_comparisons(entries)]
    return [partial(_draw, each) for each in compared if each.has_differences]


def _draw(ablation: Ablation) -> Plot:
    title = f"Differences to {ablation.name}: {title_of(ablation.base)}"
    labels = [plot_label(_short(cell.label, ablation.name)) for cell in ablation.cells]
    numbers = differences_frame(ablation)
    figure, panels = canvas(PAGE, 1.0 + LINE * len(labels), title, ncols=len(ablation.keys), sharey=True)
    for axes, key in zip(panels, ablation.keys, strict=True):
        _panel(axes, ablation, key)
        axes.set_title(fill(ablation.title(key), TITLE), fontsize=7.5)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    alt = (
        f"Bars with intervals: the difference of {len(labels)} cells to {ablation.name}; dark bars can be told "
        "from no difference."
    )
    return Plot(f"drops-{ablation.slug}", title, alt, figure, numbers)


def _short(label: str, base: str) -> str:
    """A cell's name without that of its base, which stands in the title."""
    return label.removeprefix(f"{base},")


def _panel(axes: Axes, ablation: Ablation, key: str) -> None:
    ends = [0.0]
    for line, cell in enumerate(ablation.cells):
        difference = cell.differences.get(key)
        if difference is None:
            code = next((entry.code for entry in cell.entries if entry.code), NO_PAIR)
            axes.text(0, line, f" {code}", va="center", fontsize=6, color="#b02a2a", style="italic")
            continue
        colour = {UP: GAIN, DOWN: LOSS}.get(cell.mark(key), "#c4c4c4")
        half = difference.half_width or 0.0
        interval = [difference.mean - half, difference.mean + half]
        axes.barh(line, difference.mean, height=0.72, color=colour)
        axes.plot(interval, [line, line], color=INK, linewidth=0.8)
        ends += interval
    axes.axvline(0, color=FAINT, linewidth=0.8)
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", nbins=3)


def differences_frame(ablation: Ablation) -> pd.DataFrame:
    """Return the numbers behind the plots of an ablation: a row per cell and task, and one per cell for the average.

    The column ``apart`` has the mark of a significant difference, ``at_AXIS`` the cell's value on an axis.
    """
    rows = []
    for cell in ablation.cells:
        for key in ablation.keys:
            difference = cell.differences.get(key)
            half = difference.half_width if difference else None
            rows.append(
                {
                    "cell": cell.label,
                    "task": key,
                    "difference": difference.mean if difference else None,
                    "low": difference.mean - half if difference and half is not None else None,
                    "high": difference.mean + half if difference and half is not None else None,
                    "seeds": difference.seeds if difference else 0,
                    "examples": difference.examples if difference else 0,
                    "apart": cell.mark(key),
                    **{f"at_{name}": str(value) for name, value in cell.entries[0].point.items()},
                    "run_ids": " ".join(run_ids_of(cell.entries)),
                }
            )
    return pd.DataFrame(rows)
