"""Paired differences of scores with their uncertainty over seeds and examples.

The difference of two runs on example ``i`` with seed ``s`` is taken as ``d_si = mu + a_s + b_i + e_si``, with both
seeds and examples drawn at random. The mean over all of them has the variance ``var_a/S + var_b/N + var_e/(SN)``, which
the mean squares of the two-way layout estimate without bias (Searle, Casella and McCulloch, Variance Components, 1992,
chapter 4): the variance of the seeds' means over S holds the first and the last term; the examples' mean square less
the residual one, over SN, is the middle one. Degrees of freedom are Satterthwaite's (1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
import pandas as pd

LEVEL = 0.95  # of every interval
APART = 1 - LEVEL  # two rows are told apart where the corrected p-value is below


@dataclass(frozen=True)
class Difference:
    """A mean difference in the unit of the scores, and the two parts of its variance, None where they are not known.

    ``by_seed`` is the part that more seeds make smaller, with ``seeds`` of them; ``by_example`` the part that only more
    examples make smaller, with ``examples`` of them.
    """

    mean: float
    seeds: int
    by_seed: float | None
    examples: int = 0
    by_example: float | None = None

    @property
    def variance(self) -> float | None:
        """Variance of the mean; None where neither part is known."""
        parts = [part for part in (self.by_seed, self.by_example) if part is not None]
        return sum(parts) if parts else None

    @cached_property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom."""
        pairs = [(self.by_seed, self.seeds - 1), (self.by_example, self.examples - 1)]
        squares = sum(part**2 / freedom for part, freedom in pairs if part)
        return (self.variance or 0.0) ** 2 / squares if squares else float("inf")

    @cached_property
    def half(self) -> float | None:
        """Half of the interval of level LEVEL around the mean; None where nothing is known of the spread."""
        from scipy import stats

        if self.variance is None:
            return None
        return float(stats.t.ppf(0.5 + LEVEL / 2, self.freedom)) * sqrt(self.variance) if self.variance else 0.0

    @cached_property
    def p(self) -> float | None:
        """Two-sided p-value of no difference."""
        from scipy import stats

        if self.variance is None:
            return None
        if not self.variance:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / sqrt(self.variance), self.freedom))


def difference(by_seed: Sequence[float], by_example: Sequence[pd.Series] = ()) -> Difference:
    """Return the mean of paired differences.

    Args:
        by_seed: the difference of the two scores for each seed that both have.
        by_example: for each of these seeds the differences of the examples' scores, by id; empty where they are not
            known.
    """
    mean, seeds = float(np.mean(by_seed)), len(by_seed)
    seed_part = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else None
    table = (
        pd.concat(list(by_example), axis=1, join="inner").to_numpy() if len(by_example) == seeds else np.empty((0, 0))
    )
    count = len(table)
    if count < 2:
        return Difference(mean, seeds, seed_part)
    examples = seeds * float(np.var(table.mean(axis=1), ddof=1))
    residual = 0.0
    if seeds > 1:
        rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
        residual = float((rest**2).sum()) / ((seeds - 1) * (count - 1))
    return Difference(mean, seeds, seed_part, count, max(0.0, examples - residual) / (seeds * count))


def average(parts: Sequence[Difference], by_seed: Sequence[float]) -> Difference:
    """Return the difference of the average over tasks; tasks share their seeds, but not their examples."""
    whole = difference(by_seed)
    known = [part for part in parts if part.by_example is not None]
    if len(known) < len(parts):
        return whole
    variance = sum(part.by_example or 0.0 for part in parts) / len(parts) ** 2
    return Difference(whole.mean, whole.seeds, whole.by_seed, min(part.examples for part in parts), variance)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number (Holm, 1979); None takes no part.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((value, at) for at, value in enumerate(values) if value is not None)
    found: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, at) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        found[at] = highest
    return found
