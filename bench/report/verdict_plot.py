"""The plot of ``compare``: the difference of every pair in every column, with its interval."""

from collections.abc import Sequence
from textwrap import fill

import pandas as pd

from bench.report.figure import FAINT, INK, PAGE, Plot, canvas, plot_label, theme
from bench.report.table import slug
from bench.report.verdicts import Verdict

LINE = 0.22  # inches for one pair
TITLE = 14  # letters of a panel title that fit on a line


def verdict_plot(made: Sequence[Verdict]) -> Plot:
    """Return the verdicts of one backbone and suite as dots with intervals, a panel for every column."""
    with theme():
        first = made[0]
        columns = list(dict.fromkeys(each.column for each in made))
        pairs = list(dict.fromkeys((each.first, each.second) for each in made))
        title = f"Differences on {first.backbone}, {first.suite}"
        figure, panels = canvas(PAGE, 1.05 + LINE * len(pairs), title, ncols=len(columns), sharey=True)
        for axes, column in zip(panels, columns, strict=True):
            of_column = [each for each in made if each.column == column]
            ends = [0.0]
            for each in of_column:
                line, part = pairs.index((each.first, each.second)), each.difference
                half = part.half_width or 0.0
                ends += [part.mean - half, part.mean + half]
                axes.plot(ends[-2:], [line, line], color=INK, linewidth=1.0)
                face = INK if each.decided else "white"
                axes.plot(part.mean, line, "o", color=INK, markerfacecolor=face, markersize=4.4)
            room = 0.1 * (max(ends) - min(ends)) or 1.0
            axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
            axes.set_xlim(min(ends) - room, max(ends) + room)
            axes.set_title(fill(of_column[0].title, TITLE), fontsize=6.5)
            axes.tick_params(length=0, labelsize=6)
            axes.locator_params(axis="x", nbins=3)
        panels[0].set_yticks(range(len(pairs)), [plot_label(f"{a} − {b}") for a, b in pairs])
        panels[0].set_ylim(len(pairs) - 0.4, -0.6)
    alt = "Dots with 95% intervals: the first minus the second. Filled: they can be told apart."
    numbers = pd.DataFrame([{k: v for k, v in each.content().items() if k != "words"} for each in made])
    return Plot(slug("comparison", first.backbone, first.suite), title, alt, figure, numbers)
