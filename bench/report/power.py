"""How many seeds a comparison needs: the power of the tables' own test of a difference, from stored variances."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from bench.report.differences import AVERAGE, ablations, layout
from bench.report.paired_statistics import APART, Difference, over_seeds
from bench.report.results import task_order
from bench.report.run_entries import RunEntry
from bench.report.stats import mean
from bench.report.table import groups, methods_of

ENDLESS = 1e6  # degrees of freedom
QUANTILES = (np.arange(1000) + 0.5) / 1000
MOST = 200  # seeds; more are as good as never
POWER = 0.8


@dataclass(frozen=True)
class Spread:
    """How much a difference of two rows varies, in the unit of the scores.

    ``seed`` is the variance from one pair of seeds to the next; ``examples`` the variance that stays however many seeds
    there are, because the examples of the test set were drawn once (0 where it is not known), estimated from ``count``
    of them; ``rows`` the rows that are compared with the base, which share the estimate.
    """

    seed: float
    examples: float = 0.0
    count: int = 0
    rows: int = 1

    def power(self, gap: float, seeds: int) -> float:
        """Return the probability that the table marks a difference of ``gap`` with so many seeds, at least.

        The test is Student's two-sided one at APART over the number of rows, the first step of Holm's correction; its
        statistic then has the noncentral distribution.
        """
        from scipy import stats

        found = Difference(gap, seeds, self.seed / seeds, self.rows * (seeds - 1), self.count, self.examples)
        variance, freedom = found.variance, found.satterthwaite
        if not variance:
            return float(gap != 0)
        far = abs(gap) / sqrt(variance)
        critical = float(stats.t.ppf(1 - APART / self.rows / 2, freedom))
        # A normal variate over an independent root mean square: the mean over quantiles of the latter is exact enough,
        # and finite where scipy's noncentral t is not.
        scatter = np.sqrt(stats.chi2.ppf(QUANTILES, freedom) / freedom) if freedom < ENDLESS else np.ones(1)
        return float(np.mean(stats.norm.sf(critical * scatter - far) + stats.norm.cdf(-critical * scatter - far)))

    def seeds(self, gap: float, power: float = POWER) -> int | None:
        """Return the fewest seeds (at least two) that find a difference of ``gap`` with that power, None if none do."""
        return next((seeds for seeds in range(2, MOST + 1) if self.power(gap, seeds) >= power), None)

    def gap(self, seeds: int, power: float = POWER) -> float | None:
        """Return the smallest difference that so many seeds find with that power; None for one seed."""
        from scipy import optimize

        if seeds < 2:
            return None
        high = 1.0
        while self.power(high, seeds) < power:
            high *= 2
        return float(optimize.brentq(lambda gap: self.power(gap, seeds) - power, 0.0, high))


@dataclass(frozen=True)
class PowerPlan:
    """The spreads of one comparison by task (AVERAGE among them), and where they come from."""

    backbone: str
    suite: str
    base: str
    spreads: dict[str, Spread]
    source: str


def plans(entries: Sequence[RunEntry], others: Sequence[RunEntry]) -> list[PowerPlan]:
    """Return the spreads of every comparison among the planned entries.

    They come from the scores by row and seed of the entries themselves, or, where fewer than two rows or seeds have
    scores, from ``others``: all records of the results folder; those on the same backbone and suite are taken.
    """
    found = []
    for group in groups(entries, "backbone", "suite", "base"):
        first = group[0]
        like = [e for e in others if (e.backbone, e.suite) == (first.backbone, first.suite) and not e.limited]
        spreads, source = _spreads(group), "the runs of this plan"
        if not spreads:
            spreads, source = _spreads(like), "all runs on this backbone and suite"
        rows = max(1, len(methods_of(group)) - 1)
        spreads = {key: Spread(s.seed, s.examples, s.count, rows) for key, s in spreads.items()}
        found.append(PowerPlan(first.backbone, first.suite, first.base, spreads, source if spreads else "nothing"))
    return found


def _spreads(entries: Sequence[RunEntry]) -> dict[str, Spread]:
    """The spreads by task of rows that share their seeds; empty where there are too few."""
    if not entries:
        return {}
    rows = list(methods_of(entries).values())
    rows = [row for row in rows if len({entry.seed for entry in row}) > 1] or rows[:1]
    differences = [cell.found for ablation in ablations(entries) for cell in ablation.cells]
    found = {}
    for key in [*task_order(entries), AVERAGE]:
        widest = max(rows, key=lambda row: sum(entry.average is not None for entry in row))
        whole = over_seeds(Difference(0.0, 1), layout(widest, [row for row in rows if row is not widest], key))
        if whole.by_seed is None:
            continue
        parts = [cell[key] for cell in differences if key in cell and cell[key].by_example is not None]
        examples = mean([part.by_example or 0.0 for part in parts]) if parts else 0.0
        found[key] = Spread(whole.by_seed, examples, min((part.examples for part in parts), default=0))
    return found
