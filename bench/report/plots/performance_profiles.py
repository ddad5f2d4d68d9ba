"""Performance profiles: the share of a method's runs, over tasks and seeds, that score above each normalised score.

Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021, section 4.1. A curve
that lies above another everywhere is better throughout; where they cross, each is better at some level of the score.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from bench.report.figure import FAINT, PAGE, Drawing, Plot, canvas, family_style, legend_text, shades
from bench.report.paired_statistics import LEVEL
from bench.report.run_entries import RunEntry
from bench.report.standing import MIN_SEEDS, Standing
from bench.report.table import run_ids_of, slug, title_of

ORDER = 8
CURVES = 8  # more cannot be followed
POINTS = 101
DASHES = ("-", "--", ":", "-.")


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot for a plain sweep that has a normalised mean and at least two rows with MIN_SEEDS runs."""
    plain = [entry for entry in entries if not entry.base and not entry.tuning]
    standing = Standing.of(plain) if plain else None
    return [partial(_draw, standing, plain)] if standing and standing.ends and len(standing.repeated) > 1 else []


def _draw(standing: Standing, entries: Sequence[RunEntry]) -> Plot:
    from scipy import stats

    lows, highs = (np.array([standing.ends[task][at] for task in standing.tasks])[:, None] for at in (0, 1))
    scaled = {label: (standing.run_scores(label) - lows) / (highs - lows) for label in standing.repeated}
    order = sorted(scaled, key=lambda label: -scaled[label].mean())
    shown = order[:CURVES]
    ends = [scaled[label] for label in shown]
    margin = 0.05
    grid = np.linspace(min(map(np.min, ends)) - margin, max(map(np.max, ends)) + margin, POINTS)

    def above(scores: np.ndarray, axis: int = -1) -> np.ndarray:
        """The shares of tasks and runs above every point of the grid; the runs are on the last axis."""
        return np.mean(scores[None] > grid.reshape(-1, *[1] * scores.ndim), axis=(1, axis))

    title = f"Performance profiles: {title_of(entries)}"
    figure, (axes, *_) = canvas(PAGE, 3.0, title)
    rows = []
    families = [standing.rows[label][0].family for label in shown]
    for at, label in enumerate(shown):
        alike = [place for place, family in enumerate(families) if family == families[at]]
        colour = shades(family_style(families[at]).colour, len(alike))[alike.index(at)]
        share, run_ids = above(scaled[label]), " ".join(run_ids_of(standing.rows[label]))
        interval = stats.bootstrap(
            (scaled[label],), above, vectorized=True, axis=-1, n_resamples=1000, confidence_level=LEVEL,
            method="percentile", rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        axes.step(grid, share, where="post", color=colour, linewidth=1.3, linestyle=DASHES[alike.index(at) % 4],
                  label=legend_text(label))  # fmt: skip
        axes.fill_between(grid, interval.low, interval.high, step="post", color=colour, alpha=0.12, linewidth=0)
        rows += [
            {"method": label, "score": x, "share": y, "low": low, "high": high, "run_ids": run_ids}
            for x, y, low, high in zip(grid, share, interval.low, interval.high, strict=True)
        ]
    axes.axvline(1, color=FAINT, linewidth=0.7, zorder=0)
    axes.set(xlabel=_axis_label(standing), ylabel="Share of runs above", ylim=(-0.02, 1.02), xlim=(grid[0], grid[-1]))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    of = f"the best {len(shown)} of {len(order)} rows" if len(order) > len(shown) else f"{len(shown)} rows"
    alt = (
        f"Share of runs (tasks and seeds) above a normalised score, for {of} with at least {MIN_SEEDS} seeds; bands "
        f"are pointwise {LEVEL:.0%} intervals by bootstrap over runs. {shown[0]} has the highest normalised mean."
    )
    return Plot(slug("profiles", entries[0].backbone, entries[0].suite), title, alt, figure, pd.DataFrame(rows))


def _axis_label(standing: Standing) -> str:
    zero, one = standing.reference_rows or ("", "")
    return f"Normalised score (0 = {legend_text(zero)}, 1 = {legend_text(one)})"
