"""Heat map of an ablation over two axes: the difference of the average to the base at every point."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import TwoSlopeNorm, to_hex

from bench.report.differences import Ablation, ablations
from bench.report.figure import COLUMN, FAINT, INK, PAGE, Drawing, Plot, canvas, plot_label, text_colour_on
from bench.report.plots.difference_bars import differences_frame
from bench.report.run_entries import RunEntry
from bench.report.table import LIMITED, title_of

ORDER = 6
LINE = 0.36  # inches for one row


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return one plot per base whose cells lie on two axes."""
    return [partial(_draw, each) for each in ablations(entries) if each.plot == "heatmap" and each.has_differences]


def _draw(ablation: Ablation) -> Plot:
    (across, columns), (down, rows) = sorted(ablation.axes.items(), key=lambda axis: len(axis[1]))  # more rows fit
    key = ablation.keys[-1]
    title = f"Difference to {ablation.name}, {ablation.title(key)}: {title_of(ablation.base)}"
    width = COLUMN if len(columns) <= 3 else PAGE
    figure, (axes, *_) = canvas(width, 1.05 + LINE * len(rows), title)
    values = np.full((len(rows), len(columns)), np.nan)
    texts: dict[tuple[int, int], str] = {}
    for entries, difference, mark in _points(ablation, key):
        point = entries[0].point
        if point.get(down) not in rows or point.get(across) not in columns:
            continue
        at = rows.index(point[down]), columns.index(point[across])
        if difference is None:
            texts[at] = next((entry.code for entry in entries if entry.code), "")
        else:
            values[at] = difference
            texts[at] = f"{difference:+.2f}{mark}".replace("-", "−") if entries is not ablation.base else "base"
    reach = float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0)) or 1.0
    colours = sns.color_palette("vlag_r", as_cmap=True)
    norm = TwoSlopeNorm(0.0, -reach, reach)
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, aspect="auto")
    for (row, column), text in texts.items():
        if np.isnan(values[row, column]):  # the code of a failed cell, on white
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color="#b02a2a", style="italic")
        else:
            ink = text_colour_on(to_hex(colours(norm(values[row, column]))))
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_xticks(range(len(columns)), [_written(value) for value in columns])
    axes.set_yticks(range(len(rows)), [_written(value) for value in rows])
    axes.set(xlabel=across, ylabel=down)
    axes.grid(visible=False)
    axes.tick_params(length=0, colors=INK)
    for edge in axes.spines.values():
        edge.set_color(FAINT)
    alt = f"Map of the difference to {ablation.name} over {across} and {down}; arrows can be told from none."
    return Plot(f"heat-{ablation.slug}", title, alt, figure, differences_frame(ablation))


def _points(ablation: Ablation, key: str) -> list[tuple[Sequence[RunEntry], float | None, str]]:
    """Every point as its runs, their difference (0 for the base, None without one), and its marks."""
    points: list[tuple[Sequence[RunEntry], float | None, str]] = [(ablation.base, 0.0, "")]
    for cell in ablation.cells:
        difference = cell.differences.get(key)
        limited = LIMITED * any(entry.limited for entry in cell.entries)
        points.append((cell.entries, difference.mean if difference else None, cell.mark(key) + limited))
    return points


def _written(value: object) -> str:
    return plot_label(str(value).lower() if isinstance(value, bool) else str(value))
