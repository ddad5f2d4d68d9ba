"""Curves over the training: a panel per family, its methods by name, the range of all methods behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.report.curves import usable_points
from bench.report.figure import (
    FAMILY_STYLES,
    INK,
    LONGEST,
    PAGE,
    Drawing,
    Plot,
    canvas,
    family_style,
    plot_label,
    shades,
)
from bench.report.label_placement import pixels_per_unit, spread_apart
from bench.report.run_entries import RunEntry
from bench.report.table import entries_by_label, slug, title_of

ORDER = 4
BINS = 60  # points of a drawn curve: each is the mean loss of that part of the training
TWO_PANELS = 28  # letters of the longest name with which two panels still fit side by side
LETTER = 6.5  # font size of the names
BAND = "#e8e8e8"


@dataclass(frozen=True)
class Curve:
    """What is drawn over the updates: a column of the curves, its name on the axis, and how the plot is called."""

    column: str
    axis: str
    title: str
    key: str


LOSS = Curve("loss", "loss", "Training loss", "curves")


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame], curve: Curve = LOSS) -> list[Drawing]:
    """Return a plot if there is at least one curve."""
    lines = _binned(entries, curves, curve.column)
    return [] if lines.empty else [partial(_draw, entries, lines, curve)]


def _binned(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame], value: str) -> pd.DataFrame:
    """Mean of a column per method and part of the training, over seeds."""
    rows = []
    for label, seeds in entries_by_label(entries).items():
        of_seeds = [usable_points(curves[entry.run_id], value) for entry in seeds if entry.run_id in curves]
        frame = pd.concat(of_seeds) if of_seeds else pd.DataFrame()
        if frame.empty:
            continue
        edges = np.linspace(0, frame["step"].max(), min(BINS, int(frame["step"].nunique())) + 1).tolist()
        part = pd.cut(frame["step"], edges, labels=False)
        means = frame.groupby(part)[["step", value]].mean()
        rows.append(means.assign(method=label, family=seeds[0].family))
    columns = ["method", "family", "step", value]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def _draw(entries: Sequence[RunEntry], lines: pd.DataFrame, curve: Curve) -> Plot:
    title = f"{curve.title}: {title_of(entries)}"
    value = curve.column
    present = list(dict.fromkeys(lines["family"]))
    families = [name for name in FAMILY_STYLES if name in present]
    families += [name for name in present if name not in FAMILY_STYLES]
    most = int(lines.groupby("family")["method"].nunique().max())
    longest = min(LONGEST, int(lines["method"].str.len().max()))
    columns = min(1 if longest > TWO_PANELS else 2, len(families))
    rows = -(-len(families) // columns)
    height = 0.65 + rows * max(1.45, 0.45 + 0.125 * most)
    figure, panels = canvas(PAGE, height, title, nrows=rows, ncols=columns, sharex=True, sharey=True)
    low, high = lines[value].min(), np.quantile(lines[value], 0.98 if curve == LOSS else 1.0)
    high = high if high > low else low + 1.0
    panels[0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    last = lines["step"].max()
    names = 0.046 * longest / ((PAGE - 0.6) / columns)  # share of a panel for the names; a letter is 0.046 in wide
    panels[0].set_xlim(0, last * 1.1 / (1 - names))
    for axes, family in zip(panels, families, strict=False):
        _panel(axes, lines, family, value)
    for axes in panels[::columns]:
        axes.set_ylabel(curve.axis)
    for axes in panels[len(families) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(families) - columns) : len(families)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("step")
    gap = 1.25 * LETTER * figure.dpi / 72 / pixels_per_unit(panels[0], figure)
    for axes, family in zip(panels, families, strict=False):
        _name_ends(axes, lines[lines["family"] == family], value, last, gap)
    figure.legend(
        handles=[Patch(color=BAND, label="from the lowest to the highest of all methods")],
        loc="outside lower left",
        frameon=False,
        handlelength=1.4,
    )
    count = lines["method"].nunique()
    alt = f"{curve.title} of {count} methods over {last:.0f} steps, one panel per family; grey: the range of all."
    return Plot(slug(curve.key, entries[0].backbone, entries[0].suite), title, alt, figure, lines)


def _panel(axes: Axes, lines: pd.DataFrame, family: str, value: str) -> None:
    last = lines["step"].max()
    part = pd.cut(lines["step"], BINS // 2, labels=False)
    band = lines.groupby(part).agg(step=("step", "mean"), low=(value, "min"), high=(value, "max"))
    axes.fill_between(band["step"], band["low"], band["high"], color=BAND, linewidth=0, zorder=0)
    members = lines[lines["family"] == family]
    for colour, (_, line) in zip(_shades(members), members.groupby("method", sort=False), strict=True):
        axes.plot(line["step"], line[value], color=colour, linewidth=1.0)
    axes.set_title(plot_label(family), fontsize=7.5)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1.02 * last])


def _shades(members: pd.DataFrame) -> list:
    return shades(family_style(members["family"].iloc[0]).colour, members["method"].nunique())


def _name_ends(axes: Axes, members: pd.DataFrame, value: str, last: float, gap: float) -> None:
    """Write the names at the right, in the order in which the curves end, ``gap`` (a line of text) apart."""
    ends = members.groupby("method", sort=False).tail(1)
    names, steps, values = (ends[column].tolist() for column in ("method", "step", value))
    low, high = axes.get_ylim()
    heights = spread_apart(values, gap, low + 0.6 * gap, high)
    for colour, name, step, end, height in zip(_shades(members), names, steps, values, heights, strict=True):
        axes.plot([step, last * 1.06], [end, height], color=colour, linewidth=0.5, clip_on=False)
        axes.text(last * 1.08, height, plot_label(name), va="center", fontsize=LETTER, color=INK)
