"""Curve of an ablation: the difference to the base along an ordered axis, with its interval and the trainable share."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from bench.report.differences import Ablation, ComparedCell, ablations
from bench.report.figure import FAINT, INK, PAGE, Drawing, Plot, canvas, legend_text
from bench.report.plots.difference_bars import differences_frame
from bench.report.run_entries import RunEntry
from bench.report.table import title_of

ORDER = 5
COLUMNS = 3  # panels side by side


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return one plot per base whose cells lie along an ordered axis."""
    return [partial(_draw, each) for each in ablations(entries) if each.plot == "curve" and each.has_differences]


def _draw(ablation: Ablation) -> Plot:
    axis, values = next((n, v) for n, v in ablation.axes.items() if all(isinstance(x, int | float) for x in v))
    lines = _lines(ablation, axis)
    title = f"Difference to {ablation.name} by {axis}: {title_of(ablation.base)}"
    columns = min(COLUMNS, len(ablation.keys))
    rows = -(-len(ablation.keys) // columns)
    height = 0.55 + 1.75 * rows + 0.2 * (len(lines) > 1)
    figure, panels = canvas(PAGE, height, title, nrows=rows, ncols=columns, sharex=True)
    shares = _shares(ablation, axis) if len(lines) == 1 else {}
    at_base = ablation.base[0].point.get(axis)
    origin = values.index(at_base) if at_base in values else None
    for panel, key in zip(panels, ablation.keys, strict=False):
        _panel(panel, lines, axis, values, key, origin)
        panel.set_title(ablation.title(key), fontsize=7.5)
        panel.set_xticks(
            range(len(values)), [f"{v:g}" + (f"\n{shares[v]:.2f} %" if v in shares else "") for v in values]
        )
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(f"{axis}, with the trainable share" if shares else axis)
    for panel in panels[len(ablation.keys) :]:
        panel.set_axis_off()
    if len(lines) > 1:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=4, frameon=False)
    alt = f"Curves of the difference to {ablation.name} over {len(values)} values of {axis}, with intervals."
    return Plot(f"curve-{ablation.slug}", title, alt, figure, differences_frame(ablation))


def _lines(ablation: Ablation, axis: str) -> dict[str, list[ComparedCell]]:
    """Group the cells into lines by their values on the other axes, ignoring axes that only follow the curve's."""
    points = [entry.point for entry in ablation.entries]
    others = [name for name in ablation.axes if name != axis and not _in_step(points, axis, name)]
    lines: dict[str, list[ComparedCell]] = {}
    for cell in ablation.cells:
        point = cell.entries[0].point
        name = ", ".join(f"{other}={point.get(other)}" for other in others) or axis
        lines.setdefault(name, []).append(cell)
    return lines


def _in_step(points: Sequence[Mapping[str, Any]], axis: str, other: str) -> bool:
    """Whether every value on ``axis`` goes with a single value on the other axis."""
    pairs = {(point.get(axis), str(point.get(other))) for point in points}
    return len({value for value, _ in pairs}) == len(pairs)


def _shares(ablation: Ablation, axis: str) -> dict[Any, float]:
    """The trainable share at each value of the axis."""
    pairs = [(entry.point.get(axis), entry.measured.get("percent")) for entry in ablation.entries]
    return {value: share for value, share in pairs if value is not None and share is not None}


def _panel(
    axes: Axes,
    lines: Mapping[str, Sequence[ComparedCell]],
    axis: str,
    values: Sequence[Any],
    key: str,
    origin: int | None,
) -> None:
    """Draw the lines, and the base at ``origin``, its index on the axis; a single line goes through the base."""
    axes.axhline(0, color=FAINT, linewidth=0.8)
    if origin is not None:
        axes.plot(origin, 0, "D", color=INK, markersize=4, label="base", zorder=3)
    for colour, (name, cells) in zip(sns.color_palette("colorblind", len(lines)), lines.items(), strict=True):
        drawn = [(origin, 0.0, 0.0)] if origin is not None and len(lines) == 1 else []
        for cell in cells:
            position = cell.entries[0].point.get(axis)
            if key in cell.differences and position in values:
                difference = cell.differences[key]
                drawn.append((values.index(position), difference.mean, difference.half_width or 0.0))
        at, means, halves = zip(*sorted(drawn), strict=True) if drawn else ((), (), ())
        axes.errorbar(
            at,
            means,
            yerr=halves,
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=1.0,
            capsize=2,
            label=legend_text(name),
        )
    axes.margins(x=0.12)
    axes.grid(axis="x", visible=False)
