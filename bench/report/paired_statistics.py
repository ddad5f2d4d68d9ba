"""Paired differences of scores with their uncertainty over seeds and examples.

The difference between a cell and its base on example ``i`` with seed ``s`` is modelled as ``mu + a_s + b_i + e_si``,
with both seeds and examples drawn at random. Its mean over S seeds and N examples has the variance
``var_a/S + var_b/N + var_e/(SN)``. Two parts of it are estimated without bias from the mean squares of two-way layouts
(Searle, Casella and McCulloch, Variance Components, 1992, chapter 4):

- the seed variance ``var_a/S + var_e/(SN)``, from the scores of all cells of an ablation by seed: twice their residual
  mean square over S. A single cell has two or three seeds, too few to estimate a variance from, so it is taken as the
  same for all cells of the ablation, as in any analysis of a randomised block design;
- the example variance ``var_b/N``, from the differences by example and seed of the cell alone.

The degrees of freedom of their sum are approximated as by Satterthwaite (1946).

What is no finite number never enters an estimate: without at least two finite differences there is no variance, and
without a positive, finite variance neither an interval nor a p-value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, sqrt

import numpy as np
import pandas as pd

LEVEL = 0.95  # of every interval
SIGNIFICANCE = 1 - LEVEL  # a difference is significant where its corrected p-value is below


@dataclass(frozen=True)
class Difference:
    """A mean difference in the unit of the scores, and the two parts of its variance, None where they are not known.

    Attributes:
        mean: the mean of the paired differences over ``seeds`` seeds.
        seed_variance: the part of the variance that shrinks with more seeds, estimated with ``seed_freedom`` degrees
            of freedom.
        example_variance: the part that shrinks only with more examples than the ``examples`` there are, those that
            both sides have with every seed.
        partial: whether one of the sides was also scored on other examples, which take no part.
    """

    mean: float
    seeds: int
    seed_variance: float | None = None
    seed_freedom: float = 0
    examples: int = 0
    example_variance: float | None = None
    partial: bool = False

    @property
    def _parts(self) -> list[tuple[float, float]]:
        """The known parts of the variance with their degrees of freedom."""
        pairs: list[tuple[float | None, float]]
        pairs = [(self.seed_variance, self.seed_freedom), (self.example_variance, self.examples - 1)]
        return [(part, freedom) for part, freedom in pairs if part is not None]

    @cached_property
    def variance(self) -> float | None:
        """Variance of the mean; None where neither part is known, or where one cannot be a variance."""
        if not self._parts or not all(isfinite(part) and part >= 0 for part, _ in self._parts):
            return None
        if any(part and freedom < 1 for part, freedom in self._parts):
            return None
        total = sum(part for part, _ in self._parts)
        return total if isfinite(total) else None

    @cached_property
    def satterthwaite(self) -> float:
        """Degrees of freedom of the variance by Satterthwaite's approximation; infinite where nothing was estimated."""
        total = self.variance
        if not total:
            return float("inf")
        return 1 / sum((part / total) ** 2 / freedom for part, freedom in self._parts if part)

    @cached_property
    def half_width(self) -> float | None:
        """Half of the width of the interval of level LEVEL around the mean; None where the variance is unknown.

        Differences that are all equal say nothing of their spread, unless they are all 0.
        """
        from scipy import special

        if self.variance is None or not isfinite(self.mean) or (self.variance == 0 and self.mean):
            return None
        quantile = float(special.stdtrit(self.satterthwaite, 0.5 + LEVEL / 2))
        half = quantile * sqrt(self.variance) if self.variance else 0.0
        return half if isfinite(half) else None

    @cached_property
    def p_value(self) -> float | None:
        """Two-sided p-value of the hypothesis that there is no difference; None where there is no interval."""
        from scipy import special

        if self.variance is None or self.half_width is None:
            return None
        if not self.variance:
            return 1.0
        return float(2 * special.stdtr(self.satterthwaite, -abs(self.mean) / sqrt(self.variance)))

    @cached_property
    def probability_above(self) -> float | None:
        """Probability that the true difference is above 0, given the scores and nothing else (a flat prior).

        It is the one-sided p-value of the opposite, read as a posterior probability (Gelman et al., Bayesian Data
        Analysis, 2013, section 3.2). None where there is no interval.
        """
        from scipy import special

        if self.variance is None or self.half_width is None:
            return None
        if not self.variance:
            return 0.5
        return float(special.stdtr(self.satterthwaite, self.mean / sqrt(self.variance)))

    def __neg__(self) -> "Difference":
        """The same difference the other way round."""
        return replace(self, mean=-self.mean)


def paired_difference(
    by_seed: Sequence[float], by_example: Sequence[pd.Series] = (), *, partial: bool = False
) -> Difference:
    """Return the mean of paired differences, with the example variance where it can be estimated.

    Args:
        by_seed: the difference of the two scores for each seed that both sides have.
        by_example: for each of these seeds the differences of the examples' scores, indexed by the examples' ids;
            empty where they are not known. Only examples with a finite difference for every seed take part.
        partial: whether one of the sides was also scored on other examples.
    """
    seeds, mean = len(by_seed), float(np.mean(by_seed))
    if len(by_example) < seeds:
        return Difference(mean, seeds, partial=partial)
    first, *others = by_example
    if all(other.index.equals(first.index) for other in others):
        table = np.column_stack([series.to_numpy(dtype=float) for series in by_example])
    else:
        table = pd.concat(list(by_example), axis=1, join="inner").to_numpy(dtype=float)
    table = table[np.isfinite(table).all(axis=1)]
    if (count := len(table)) < 2:
        return Difference(mean, seeds, examples=count, partial=partial)
    with np.errstate(over="ignore", invalid="ignore"):
        examples = seeds * float(np.var(table.mean(axis=1), ddof=1))
        residual = _residual(table)[0] if seeds > 1 else 0.0
    surplus = examples - residual
    variance = max(0.0, surplus) / (seeds * count) if isfinite(surplus) else None
    return Difference(mean, seeds, examples=count, example_variance=variance, partial=partial)


def average_difference(parts: Sequence[Difference], by_seed: Sequence[float]) -> Difference:
    """Return the difference of the average over tasks, which share their seeds but not their examples.

    Args:
        parts: the differences of the tasks.
        by_seed: the difference of the two averages for each seed.
    """
    partial = any(part.partial for part in parts)
    without_examples = Difference(float(np.mean(by_seed)), len(by_seed), partial=partial)
    if any(part.example_variance is None for part in parts):
        return without_examples
    variance = sum(part.example_variance or 0.0 for part in parts) / len(parts) ** 2
    return replace(without_examples, examples=min(part.examples for part in parts), example_variance=variance)


def with_seed_variance(difference: Difference, scores: np.ndarray) -> Difference:
    """Return the difference with its seed variance, or unchanged where fewer than two rows or seeds have scores.

    Args:
        difference: the difference of one cell.
        scores: the scores of all cells, the base among them, as an array of cells by seeds; a cell with a gap takes no
            part.
    """
    scores = scores[np.isfinite(scores).all(axis=1)]
    if min(scores.shape) < 2:
        return difference
    with np.errstate(over="ignore", invalid="ignore"):
        mean_square, freedom = _residual(scores)
    if not isfinite(mean_square):
        return difference
    return replace(difference, seed_variance=2 * mean_square / difference.seeds, seed_freedom=freedom)


def with_pooled_variance(estimate: Difference, scores: np.ndarray) -> Difference:
    """Return the mean score of one row with its seed variance, or unchanged where nothing is known of it.

    The variance from seed to seed is the mean over rows of their sample variances, of a row alone its own. Part of it
    may be common to all rows, which then tell less than as many independent ones; the degrees of freedom are those of
    its two mean squares, seeds and residual, by Satterthwaite's approximation.

    Args:
        estimate: the mean score of one row, as a difference to 0.
        scores: the scores of all rows as an array of rows by seeds; a row with a gap takes no part.
    """
    scores = scores[np.isfinite(scores).all(axis=1)]
    rows, seeds = scores.shape
    if not rows or seeds < 2:
        return estimate
    with np.errstate(over="ignore", invalid="ignore"):
        common = float(np.var(scores.mean(axis=0), ddof=1))
        rest = _residual(scores)[0] * (rows - 1) / rows if rows > 1 else 0.0
    if not isfinite(common + rest):
        return estimate
    spread = common**2 / (seeds - 1) + (rest**2 / ((rows - 1) * (seeds - 1)) if rows > 1 else 0.0)
    freedom = (common + rest) ** 2 / spread if spread else float(seeds - 1)
    return replace(estimate, seed_variance=(common + rest) / estimate.seeds, seed_freedom=freedom)


def _residual(table: np.ndarray) -> tuple[float, int]:
    """Return the residual mean square of a two-way layout (rows by columns), and its degrees of freedom."""
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((rest**2).sum()) / freedom, freedom


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number (Holm, A simple sequentially rejective procedure, 1979).

    None stands for a missing p-value; it takes no part, nor does NaN.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((value, at) for at, value in enumerate(values) if value is not None and isfinite(value))
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, at) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        corrected[at] = highest
    return corrected
