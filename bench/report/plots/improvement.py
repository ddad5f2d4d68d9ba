"""Probability of improvement: how often a run of the leading method beats a run of another, over the tasks.

Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021, section 4.3: the
mean over tasks of the Mann-Whitney statistic over the number of pairs of runs.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from bench.report.figure import FAINT, PAGE, Drawing, Plot, canvas, family_style, plot_label
from bench.report.paired_statistics import LEVEL
from bench.report.run_entries import RunEntry
from bench.report.standing import MIN_SEEDS, Standing
from bench.report.table import run_ids_of, slug, title_of

ORDER = 9
LINE = 0.165  # inches for one row


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot for a plain sweep whose leading row and at least one other have MIN_SEEDS runs."""
    plain = [entry for entry in entries if not entry.base and not entry.tuning]
    standing = Standing.of(plain) if plain else None
    if standing is None or standing.leader not in standing.repeated or len(standing.repeated) < 2:
        return []
    return [partial(_draw, standing, plain)]


def improvement(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the probability that a run of the first beats one of the second, as a mean over tasks (the first axis)."""
    gaps = np.moveaxis(first, axis, -1)[..., :, None] - np.moveaxis(second, axis, -1)[..., None, :]
    return np.heaviside(gaps, 0.5).mean(axis=(0, -2, -1))


def _draw(standing: Standing, entries: Sequence[RunEntry]) -> Plot:
    from scipy import stats

    leader = standing.leader or ""
    best = standing.run_scores(leader)
    rows = []
    for label in standing.repeated:
        if label == leader:
            continue
        other = standing.run_scores(label)
        interval = stats.bootstrap(
            (best, other), improvement, vectorized=True, axis=-1, n_resamples=1000, confidence_level=LEVEL,
            method="percentile", rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        rows.append(
            {
                "method": label,
                "probability": float(improvement(best, other)),
                "low": float(interval.low),
                "high": float(interval.high),
                "run_ids": " ".join(run_ids_of([*standing.rows[leader], *standing.rows[label]])),
            }
        )
    table = pd.DataFrame(rows).sort_values("probability", kind="stable", ignore_index=True)
    title = f"Probability of improvement of {leader}: {title_of(entries)}"
    figure, (axes, *_) = canvas(PAGE, 0.8 + LINE * len(table), title)
    for line, row in enumerate(table.to_dict("records")):
        style = family_style(standing.rows[row["method"]][0].family)
        axes.plot([row["low"], row["high"]], [line, line], color=style.colour, linewidth=1.1)
        axes.plot(row["probability"], line, style.marker, color=style.colour, markersize=4.6)
    axes.set_yticks(range(len(table)), [plot_label(label) for label in table["method"]])
    axes.set(ylim=(len(table) - 0.4, -0.6), xlim=(-0.02, 1.02))
    axes.set_xlabel(f"Probability that a run of {plot_label(leader)} scores higher on a task")
    axes.axvline(0.5, color=FAINT, linewidth=0.8, zorder=0)
    axes.tick_params(length=0)
    alt = (
        f"How probable it is that a run of {leader} beats a run of each other row with at least {MIN_SEEDS} seeds, the "
        f"mean over {len(standing.tasks)} tasks, with {LEVEL:.0%} intervals by bootstrap over runs, rough where "
        "these are few; 0.5 is none."
    )
    return Plot(slug("improvement", entries[0].backbone, entries[0].suite), title, alt, figure, table)
