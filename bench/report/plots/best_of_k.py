"""Expected best of k configurations against k: what tuning costs each method, at equal budgets."""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from bench.report.figure import INK, LONGEST, PAGE, Drawing, Plot, canvas, family_style, plot_label, shades
from bench.report.label_placement import pixels_per_unit, spread_apart
from bench.report.run_entries import RunEntry
from bench.report.table import run_ids_of, slug, title_of
from bench.report.tuning import TunedMethod, expected_best, tuned_methods

ORDER = 8
LETTER = 6.5  # font size of the names


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot if there are runs that tune."""
    return [partial(_draw, methods) for methods in tuned_methods([entry for entry in entries if entry.tuning])]


def _draw(methods: Sequence[TunedMethod]) -> Plot:
    first = methods[0].entries[0]
    rows = [
        {
            "method": method.method,
            "family": method.entries[0].family,
            "k": k,
            "best": expected_best(list(method.scores.values()), k),
            "run_ids": " ".join(run_ids_of(method.entries)),
        }
        for method in methods
        for k in range(1, len(method.scores) + 1)
    ]
    lines = pd.DataFrame(rows)
    title = f"Expected best of k configurations: {title_of([first])}"
    figure, (axes, *_) = canvas(PAGE, max(2.4, 0.8 + 0.14 * len(methods)), title)
    last = int(lines["k"].max())
    for family, members in lines.groupby("family", sort=False):
        colours = shades(family_style(str(family)).colour, members["method"].nunique())
        for colour, (_, line) in zip(colours, members.groupby("method", sort=False), strict=True):
            axes.plot(line["k"], line["best"], color=colour, marker="o", markersize=3, linewidth=1.0)
    longest = min(LONGEST, lines["method"].str.len().max())
    names = 0.055 * longest / (PAGE - 0.8)  # share of the width for the names at the right; a letter is 0.055 in wide
    axes.set_xlim(0.8, 0.8 + (last * 1.06 - 0.8) / (1 - names))
    axes.set_xticks([k for k in range(1, last + 1) if last <= 16 or k % 4 == 1])
    axes.set(xlabel="k, configurations tried", ylabel="expected best average")
    low, high = axes.get_ylim()
    gap = 1.25 * LETTER * figure.dpi / 72 / pixels_per_unit(axes, figure)
    ends = lines.groupby("method", sort=False).tail(1)
    for name, k, best, height in zip(
        ends["method"], ends["k"], ends["best"], spread_apart(list(ends["best"]), gap, low, high), strict=True
    ):
        axes.plot([k, last * 1.03], [best, height], color="#999999", linewidth=0.5, clip_on=False)
        axes.text(last * 1.04, height, plot_label(name), va="center", fontsize=LETTER, color=INK)
    alt = f"Curves of the expected best of k configurations of {len(methods)} methods, k up to {last}."
    return Plot(slug("best-of-k", first.backbone, first.suite), title, alt, figure, lines)
