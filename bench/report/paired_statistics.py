"""Paired differences of scores with their uncertainty over seeds and examples.

The difference of a cell and its base on example ``i`` with seed ``s`` is taken as ``mu + a_s + b_i + e_si``, with both
seeds and examples drawn at random. The mean over S seeds and N examples has the variance
``var_a/S + var_b/N + var_e/(SN)``, whose parts the mean squares of two-way layouts estimate without bias (Searle,
Casella and McCulloch, Variance Components, 1992, chapter 4):

- the part that seeds make, ``var_a/S + var_e/(SN)``, from the scores of all cells of an ablation by seed: twice their
  residual mean square over S. Single cells have two or three seeds, which say next to nothing of a variance, so it is
  taken as the same for all cells of the ablation, as in any analysis of a randomised block design;
- the part that only examples make, ``var_b/N``, from the differences by example and seed of the cell alone.

Degrees of freedom of the sum are Satterthwaite's (1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import numpy as np
import pandas as pd

LEVEL = 0.95  # of every interval
APART = 1 - LEVEL  # two rows are told apart where the corrected p-value is below


@dataclass(frozen=True)
class Difference:
    """A mean difference in the unit of the scores, and the two parts of its variance, None where they are not known.

    ``by_seed`` is the part that more than ``seeds`` seeds make smaller, estimated with ``freedom`` degrees of freedom;
    ``by_example`` the part that only more than ``examples`` examples make smaller.
    """

    mean: float
    seeds: int
    by_seed: float | None = None
    freedom: int = 0
    examples: int = 0
    by_example: float | None = None

    @property
    def variance(self) -> float | None:
        """Variance of the mean; None where neither part is known."""
        parts = [part for part in (self.by_seed, self.by_example) if part is not None]
        return sum(parts) if parts else None

    @cached_property
    def satterthwaite(self) -> float:
        """Degrees of freedom of the variance."""
        pairs = [(self.by_seed, self.freedom), (self.by_example, self.examples - 1)]
        squares = sum(part**2 / freedom for part, freedom in pairs if part)
        return (self.variance or 0.0) ** 2 / squares if squares else float("inf")

    @cached_property
    def half(self) -> float | None:
        """Half of the interval of level LEVEL around the mean; None where nothing is known of the spread."""
        from scipy import stats

        if self.variance is None:
            return None
        return float(stats.t.ppf(0.5 + LEVEL / 2, self.satterthwaite)) * sqrt(self.variance) if self.variance else 0.0

    @cached_property
    def p(self) -> float | None:
        """Two-sided p-value of no difference."""
        from scipy import stats

        if self.variance is None:
            return None
        if not self.variance:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / sqrt(self.variance), self.satterthwaite))


def difference(by_seed: Sequence[float], by_example: Sequence[pd.Series] = ()) -> Difference:
    """Return the mean of paired differences, with the part of the examples alone in its variance.

    Args:
        by_seed: the difference of the two scores for each seed that both have.
        by_example: for each of these seeds the differences of the examples' scores, by id; empty where they are not
            known.
    """
    seeds, mean = len(by_seed), float(np.mean(by_seed))
    if len(by_example) < seeds:
        return Difference(mean, seeds)
    table = pd.concat(list(by_example), axis=1, join="inner").to_numpy()
    if (count := len(table)) < 2:
        return Difference(mean, seeds)
    examples = seeds * float(np.var(table.mean(axis=1), ddof=1))
    residual = _residual(table)[0] if seeds > 1 else 0.0
    return Difference(mean, seeds, examples=count, by_example=max(0.0, examples - residual) / (seeds * count))


def average(parts: Sequence[Difference], by_seed: Sequence[float]) -> Difference:
    """Return the difference of the average over tasks; tasks share their seeds, but not their examples."""
    whole = Difference(float(np.mean(by_seed)), len(by_seed))
    if any(part.by_example is None for part in parts):
        return whole
    variance = sum(part.by_example or 0.0 for part in parts) / len(parts) ** 2
    return replace(whole, examples=min(part.examples for part in parts), by_example=variance)


def over_seeds(found: Difference, scores: np.ndarray) -> Difference:
    """Return the difference with the part of the seeds in its variance.

    Args:
        found: the difference.
        scores: cells (the base among them) x seeds, without gaps; of fewer than two seeds nothing follows.
    """
    if min(scores.shape) < 2:
        return found
    square, freedom = _residual(scores)
    return replace(found, by_seed=2 * square / found.seeds, freedom=freedom)


def _residual(table: np.ndarray) -> tuple[float, int]:
    """Return the residual mean square of a two-way layout, and its degrees of freedom."""
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((rest**2).sum()) / freedom, freedom


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
