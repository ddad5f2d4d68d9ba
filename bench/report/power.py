"""How many seeds a comparison needs: the power of the test that marks differences in tables, from stored variances."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, sqrt

import numpy as np

from bench.report.differences import ablations
from bench.report.paired_statistics import SIGNIFICANCE, Difference, with_seed_variance
from bench.report.pairing import AVERAGE, score_matrix
from bench.report.run_entries import RunEntry
from bench.report.stats import mean
from bench.report.table import entries_by_label, group_entries
from bench.report.task_columns import task_order

ENDLESS = 1e6  # degrees of freedom
QUANTILES = (np.arange(1000) + 0.5) / 1000
MOST = 200  # seeds; more are as good as never
POWER = 0.8
HUGE = 1e9  # score points; no difference is larger


@dataclass(frozen=True)
class DifferenceVariance:
    """How much the difference of two rows varies, in the squared unit of the scores.

    Attributes:
        seed: the variance from one pair of runs to the next.
        example: the variance that stays however many seeds there are, because the examples of the test set were drawn
            once, estimated from ``examples`` of them (0 where it is not known).
        rows: the number of rows that are compared with the base; they share the estimate of ``seed``.
        hypotheses: the number of tests that p-values are corrected for; 0 for one per row.
    """

    seed: float
    example: float = 0.0
    examples: int = 0
    rows: int = 1
    hypotheses: int = 0

    def power(self, gap: float, seeds: int) -> float:
        """Return a lower bound of the probability that the table marks a difference of ``gap`` with so many seeds.

        The test is Student's two-sided one at SIGNIFICANCE over the number of tests, the first step of Holm's
        correction; its statistic then follows the noncentral t distribution.
        """
        from scipy import stats

        difference = Difference(gap, seeds, self.seed / seeds, self.rows * (seeds - 1), self.examples, self.example)
        variance, freedom = difference.variance, difference.satterthwaite
        if variance is None or not isfinite(gap):  # nothing is known, so nothing is promised
            return 0.0
        if not variance:
            return float(gap != 0)
        noncentrality = abs(gap) / sqrt(variance)
        critical = float(stats.t.ppf(1 - SIGNIFICANCE / (self.hypotheses or self.rows) / 2, freedom))
        # The statistic is a normal variate over an independent root mean square. The mean over quantiles of the latter
        # is accurate enough, and finite where scipy's noncentral t is not.
        scatter = np.sqrt(stats.chi2.ppf(QUANTILES, freedom) / freedom) if freedom < ENDLESS else np.ones(1)
        above = stats.norm.sf(critical * scatter - noncentrality)
        below = stats.norm.cdf(-critical * scatter - noncentrality)
        return float(np.mean(above + below))

    def seeds_needed(self, gap: float, power: float = POWER) -> int | None:
        """Return the fewest seeds (at least two) that find a difference of ``gap`` with that power.

        None where even MOST seeds do not.
        """
        return next((seeds for seeds in range(2, MOST + 1) if self.power(gap, seeds) >= power), None)

    def examples_needed(self, gap: float, seeds: int, power: float = POWER) -> int | None:
        """Return the fewest examples that find a difference of ``gap`` with so many seeds and that power.

        The variance that comes from the choice of the examples shrinks with their number; what a run adds stays, so
        None where even endlessly many examples are not enough, or where their part of the variance is not known.
        """
        if not self.examples or replace(self, example=0.0).power(gap, seeds) < power:
            return None
        low, high = 1, self.examples
        while self._with_examples(high).power(gap, seeds) < power:
            low, high = high, high * 2
            if high > HUGE:
                return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._with_examples(middle).power(gap, seeds) >= power else (middle + 1, high)
        return high

    def _with_examples(self, examples: int) -> "DifferenceVariance":
        return replace(self, example=self.example * self.examples / examples, examples=examples)

    def detectable_gap(self, seeds: int, power: float = POWER) -> float | None:
        """Return the smallest difference that so many seeds find with that power; None for one seed, or if none is."""
        from scipy import optimize

        if seeds < 2:
            return None
        high = 1.0
        while self.power(high, seeds) < power:
            high *= 2
            if high > HUGE:
                return None
        return float(optimize.brentq(lambda gap: self.power(gap, seeds) - power, 0.0, high))


@dataclass(frozen=True)
class PowerPlan:
    """The variances of one comparison by task, AVERAGE among them, and ``source``, which says where they come from."""

    backbone: str
    suite: str
    base: str
    variances: dict[str, DifferenceVariance]
    source: str


def power_plans(entries: Sequence[RunEntry], others: Sequence[RunEntry]) -> list[PowerPlan]:
    """Return the variances of every comparison among the planned entries.

    They are estimated from the scores by row and seed of the entries themselves. Where fewer than two rows or seeds
    have scores, they are estimated from ``others``, all records of the results folder, as far as these are on the same
    backbone and suite and neither limited nor stale.
    """
    power = []
    for group in group_entries(entries, "backbone", "suite", "base"):
        first = group[0]
        similar = [e for e in others if (e.backbone, e.suite) == (first.backbone, first.suite)]
        similar = [entry for entry in similar if not (entry.limited or entry.stale)]
        variances, source = _variances(group), "the runs of this plan"
        if not variances:
            variances, source = _variances(similar), "all runs on this backbone and suite"
        rows = max(1, len(entries_by_label(group)) - 1)
        variances = {key: replace(variance, rows=rows) for key, variance in variances.items()}
        power.append(PowerPlan(first.backbone, first.suite, first.base, variances, source if variances else "nothing"))
    return power


def _variances(entries: Sequence[RunEntry]) -> dict[str, DifferenceVariance]:
    """The variances by task from rows that share their seeds; empty where there are too few rows or seeds."""
    if not entries:
        return {}
    rows = list(entries_by_label(entries).values())
    rows = [row for row in rows if len({entry.seed for entry in row}) > 1] or rows[:1]
    compared = [cell.differences for ablation in ablations(entries) for cell in ablation.cells]
    variances, tasks = {}, task_order(entries)
    for key in [*tasks, AVERAGE]:
        widest = max(rows, key=lambda row: score_matrix(row, [], key, tasks).shape[1])
        scores = score_matrix(widest, [row for row in rows if row is not widest], key, tasks)
        seed_variance = with_seed_variance(Difference(0.0, 1), scores).seed_variance
        if seed_variance is None:
            continue
        parts = [cell[key] for cell in compared if key in cell and cell[key].example_variance is not None]
        example_variance = mean([part.example_variance or 0.0 for part in parts]) if parts else 0.0
        examples = min((part.examples for part in parts), default=0)
        variances[key] = DifferenceVariance(seed_variance, example_variance, examples)
    return variances
