"""Every row of a table compared with every other: which pairs can be told apart, which rows are level with the best.

The p-values of a column are corrected for all its pairs of rows. A row that is called the best was chosen by its
scores, and so was the pair that looks most different; a correction for fewer pairs would find differences among equal
rows more often than it says.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from bench.report.paired_statistics import SIGNIFICANCE, Difference, average_difference, holm, with_seed_variance
from bench.report.pairing import AVERAGE, PairedRows, by_occurrence
from bench.report.run_entries import RunEntry
from bench.report.stats import mean

Rows = Mapping[str, Sequence[RunEntry]]
"""The runs of each row of a table by the row's label."""


@dataclass(frozen=True)
class Comparisons:
    """The differences between all pairs of rows by column (a task or AVERAGE), and their corrected p-values.

    A pair is two labels in the order of the rows; the difference is that of the first minus the second.
    """

    differences: Mapping[str, Mapping[tuple[str, str], Difference]]
    corrected: Mapping[str, Mapping[tuple[str, str], float | None]]

    def difference(self, key: str, first: str, second: str) -> Difference | None:
        """Return the score of ``first`` minus that of ``second``, None where they have no pair of runs."""
        pairs = self.differences.get(key, {})
        if (first, second) in pairs:
            return pairs[first, second]
        return -pairs[second, first] if (second, first) in pairs else None

    def p_value(self, key: str, first: str, second: str) -> float | None:
        """Return the corrected p-value of two rows, None where nothing is known of their difference's spread."""
        pairs = self.corrected.get(key, {})
        return pairs.get((first, second), pairs.get((second, first)))

    def level(self, key: str, first: str, second: str) -> bool:
        """Whether two rows were compared and cannot be told apart."""
        p_value = self.p_value(key, first, second)
        return p_value is not None and p_value >= SIGNIFICANCE

    def level_with(self, key: str, best: str, labels: Sequence[str]) -> frozenset[str]:
        """Return ``best`` and those of the labels that cannot be told apart from it; none where nothing is known."""
        others = [label for label in labels if label != best]
        if all(self.p_value(key, best, label) is None for label in others):
            return frozenset()
        return frozenset([best, *(label for label in others if self.level(key, best, label))])


@dataclass(frozen=True)
class TaskPair:
    """Two rows on one task: their difference without its seed variance, and the difference of every seed."""

    difference: Difference
    gaps: Mapping[int, float]


def compare_rows(
    rows: Rows, tasks: Sequence[str], averages: Mapping[str, Mapping[str, float]] | None = None
) -> Comparisons:
    """Compare all pairs of rows on every task and on averages over the tasks.

    Differences are paired over seeds and examples. The variance over seeds is taken as the same for all pairs of a
    column and estimated from all rows with the seeds of the widest; a pair that shares only a part of its examples has
    its own.

    Args:
        rows: the runs of each row.
        tasks: the columns.
        averages: by key of a further column the scale of each task, which scores are divided by before the average is
            taken; with several tasks the plain AVERAGE.
    """
    averages = averages if averages is not None else {AVERAGE: dict.fromkeys(tasks, 1.0)} if len(tasks) > 1 else {}
    by_task = {task: _pairs(rows, task) for task in tasks}
    differences: dict[str, dict[tuple[str, str], Difference]] = {}
    for task in tasks:
        pooled = pooled_scores(rows, {task: 1.0})
        differences[task] = {
            pair: _with_seeds(each.difference, list(each.gaps.values()), pooled) for pair, each in by_task[task].items()
        }
    for key, scales in averages.items():
        pooled, of_key = pooled_scores(rows, scales), {}
        for pair in combinations(rows, 2):
            parts = [(by_task[task][pair], scale) for task, scale in scales.items() if pair in by_task[task]]
            if len(parts) == len(scales) and (gaps := _average_gaps(parts)):
                scaled = [_scaled(part.difference, scale) for part, scale in parts]
                of_key[pair] = _with_seeds(average_difference(scaled, gaps), gaps, pooled)
        differences[key] = of_key
    corrected = {
        key: dict(zip(parts, holm([part.p_value for part in parts.values()]), strict=True))
        for key, parts in differences.items()
    }
    return Comparisons(differences, corrected)


def _with_seeds(difference: Difference, gaps: Sequence[float], pooled: np.ndarray) -> Difference:
    own = np.array([[0.0] * len(gaps), gaps])
    return with_seed_variance(difference, own if difference.partial else pooled)


def _average_gaps(parts: Sequence[tuple[TaskPair, float]]) -> list[float]:
    """The difference of the averages for each seed that has one on every task."""
    (first, _), *_ = parts
    seeds = [seed for seed in first.gaps if all(seed in part.gaps for part, _ in parts)]
    return [mean([part.gaps[seed] / scale for part, scale in parts]) for seed in seeds]


def _scaled(difference: Difference, scale: float) -> Difference:
    variance = difference.example_variance
    if scale == 1.0:
        return difference
    return replace(
        difference, mean=difference.mean / scale, example_variance=None if variance is None else variance / scale**2
    )


def pooled_scores(rows: Rows, scales: Mapping[str, float]) -> np.ndarray:
    """Return the scores of a column as an array of rows by seeds, of the rows that have all seeds of the widest.

    A score is the mean over the tasks in ``scales`` of the score on a task over its scale.
    """
    by_row = []
    for row in rows.values():
        scores = {e.seed: [e.score(task) for task in scales] for e in row}
        complete = {seed: [v for v in values if v is not None] for seed, values in scores.items()}
        by_row.append(
            {
                seed: mean([value / scale for value, scale in zip(values, scales.values(), strict=True)])
                for seed, values in complete.items()
                if len(values) == len(scales)
            }
        )
    seeds = max((list(row) for row in by_row), key=len, default=[])
    table = [[row[seed] for seed in seeds] for row in by_row if seeds and row.keys() >= set(seeds)]
    return np.array(table, dtype=float).reshape(len(table), len(seeds))


def _pairs(rows: Rows, task: str) -> dict[tuple[str, str], TaskPair]:
    """All pairs of rows that have a pair of runs on a task, in the order of the rows."""
    regular = _regular_pairs(rows, task)
    pairs = {}
    for pair in combinations(rows, 2):
        if pair in regular:
            pairs[pair] = regular[pair]
            continue
        paired = PairedRows.of(rows[pair[0]], rows[pair[1]], [task])
        if (difference := paired.difference(task)) is not None:
            pairs[pair] = TaskPair(difference, {seed: each.gap for seed, each in paired.pairs[task].items()})
    return pairs


def _regular_pairs(rows: Rows, task: str) -> dict[tuple[str, str], TaskPair]:
    """The pairs among the rows with the same seeds and examples, all at once.

    They are those of :class:`bench.report.pairing.PairedRows`, with the mean squares of differences taken from the
    products of rows: var(a - b) is var(a) + var(b) - 2 cov(a, b).
    """
    scored = {label: [entry for entry in row if entry.score(task) is not None] for label, row in rows.items()}
    seeds = Counter(tuple(entry.seed for entry in row) for row in scored.values() if row).most_common(1)
    first = next((e.examples[task] for row in scored.values() for e in row if task in e.examples), None)
    if not seeds or first is None or len(first) < 2 or not first.index.is_unique:
        return {}
    points: dict[str, np.ndarray] = {}
    for label, row in scored.items():
        series = [entry.examples.get(task) for entry in row]
        alike = [each is not None and each.index.equals(first.index) for each in series]
        if tuple(entry.seed for entry in row) == seeds[0][0] and all(alike):
            table = np.stack([by_occurrence(each).to_numpy() for each in series if each is not None])
            points |= {label: table} if np.isfinite(table).all() else {}
    if len(points) < 2:
        return {}
    number, count = len(seeds[0][0]), len(first)
    means = np.stack([table.mean(axis=0) for table in points.values()])
    examples, residual = np.cov(means) * number, np.zeros((len(points), len(points)))
    for at in range(number if number > 1 else 0):
        of_seed = np.stack([table[at] - table[at].mean() + table.mean() for table in points.values()]) - means
        residual += of_seed @ of_seed.T / ((count - 1) * (number - 1))
    surplus = _of_differences(examples) - _of_differences(residual)
    scores = {label: {entry.seed: entry.score(task) or 0.0 for entry in scored[label]} for label in points}
    pairs = {}
    for (at, a), (to, b) in combinations(enumerate(points), 2):
        gaps = {seed: scores[a][seed] - scores[b][seed] for seed in scores[a]}
        variance = max(0.0, float(surplus[at, to])) / (number * count)
        difference = Difference(mean(list(gaps.values())), number, examples=count, example_variance=variance)
        pairs[a, b] = TaskPair(difference, gaps)
    return pairs


def _of_differences(products: np.ndarray) -> np.ndarray:
    """The mean squares of all differences of rows from the mean products of the rows; what is rounding alone is 0."""
    total = products.diagonal()[:, None] + products.diagonal()
    squares = total - 2 * products
    return np.where(squares > 1e-12 * total, squares, 0.0)
