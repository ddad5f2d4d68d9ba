"""Curve of an ablation: the difference to the base along an ordered axis, with its interval and the trainable share."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from bench.report.differences import Ablation, Compared, ablations
from bench.report.figure import FAINT, INK, PAGE, Plot, canvas
from bench.report.plots.difference_bars import differences_frame
from bench.report.run_entries import RunEntry
from bench.report.table import title_of

ORDER = 5
COLUMNS = 3  # panels side by side


def draw(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """One plot per base whose cells lie along an ordered axis."""
    return [_draw(found) for found in ablations(entries) if found.plot == "curve" and any(c.found for c in found.cells)]


def _draw(ablation: Ablation) -> Plot:
    axis, values = next((n, v) for n, v in ablation.axes.items() if all(isinstance(x, int | float) for x in v))
    lines = _lines(ablation, axis)
    title = f"Difference to {ablation.base[0].base} by {axis}: {title_of(ablation.base)}"
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
    alt = f"Curves of the difference to {ablation.base[0].base} over {len(values)} values of {axis}, with intervals."
    return Plot(f"curve-{ablation.slug}", title, alt, figure, differences_frame(ablation))


def _lines(ablation: Ablation, axis: str) -> dict[str, list[Compared]]:
    """Cells by the values of the other axes, but for those that only go in step with the axis of the curve."""
    points = [entry.point for entry in ablation.entries]
    others = [name for name in ablation.axes if name != axis and not _in_step(points, axis, name)]
    lines: dict[str, list[Compared]] = {}
    for cell in ablation.cells:
        point = cell.entries[0].point
        name = ", ".join(f"{other}={point.get(other)}" for other in others) or axis
        lines.setdefault(name, []).append(cell)
    return lines


def _in_step(points: Sequence[Mapping[str, Any]], axis: str, other: str) -> bool:
    pairs = {(point.get(axis), str(point.get(other))) for point in points}
    return len({at for at, _ in pairs}) == len(pairs)


def _shares(ablation: Ablation, axis: str) -> dict[Any, float]:
    """The trainable share at each value of the axis."""
    known = [(entry.point.get(axis), entry.measured.get("percent")) for entry in ablation.entries]
    return {at: share for at, share in known if at is not None and share is not None}


def _panel(
    axes: Axes,
    lines: Mapping[str, Sequence[Compared]],
    axis: str,
    values: Sequence[Any],
    key: str,
    origin: int | None,
) -> None:
    """Draw the lines, and the base at its place on the axis; a line of its own goes through it."""
    axes.axhline(0, color=FAINT, linewidth=0.8)
    if origin is not None:
        axes.plot(origin, 0, "D", color=INK, markersize=4, label="base", zorder=3)
    for colour, (name, cells) in zip(sns.color_palette("colorblind", len(lines)), lines.items(), strict=True):
        drawn = [(origin, 0.0, 0.0)] if origin is not None and len(lines) == 1 else []
        for cell in cells:
            if key in cell.found and cell.entries[0].point.get(axis) in values:
                found = cell.found[key]
                drawn.append((values.index(cell.entries[0].point[axis]), found.mean, found.half or 0.0))
        at, means, halves = zip(*sorted(drawn), strict=True) if drawn else ((), (), ())
        axes.errorbar(
            at, means, yerr=halves, color=colour, marker="o", markersize=3.5, linewidth=1.0, capsize=2, label=name
        )
    axes.margins(x=0.12)
    axes.grid(axis="x", visible=False)
