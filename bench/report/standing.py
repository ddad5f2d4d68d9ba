"""How the rows of one backbone and suite stand to each other: intervals, groups that are level, and means over tasks.

Scores of different tasks have different units, so their plain average follows the task with the widest scores. Two
means do not: the **mean rank** over the tasks, and the **normalised mean**, where each task's scores are 0 for a row
that sees nothing or trains next to nothing and 1 for full fine-tuning (Agarwal et al., Deep Reinforcement Learning at
the Edge of the Statistical Precipice, 2021). Which mean ranks can be told apart is tested on the mean of standardised
scores, each task's divided by its standard deviation over the ranked rows: ranks on a handful of tasks decide nothing
by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import pstdev

import numpy as np
import pandas as pd

from bench.report.bootstrap import drawn_scores
from bench.report.comparisons import Comparisons, compare_rows, pooled_scores
from bench.report.paired_statistics import (
    LEVEL,
    Difference,
    average_difference,
    paired_difference,
    with_pooled_variance,
)
from bench.report.pairing import AVERAGE, by_occurrence
from bench.report.run_entries import RunEntry
from bench.report.stats import DECIMALS, finite_only, mean
from bench.report.table import REFERENCE, entries_by_label, group_entries, is_reference, row_marks
from bench.report.task_columns import task_order

MIN_SEEDS = 3  # fewer runs of a row have no distribution
LOWER_END = "projector-only"  # scores 0 in the normalised mean, unless a blind row does
MEAN_RANK, NORMALISED, STANDARDISED = "mean_rank", "normalised", "standardised"


@dataclass(frozen=True)
class MeanOverTasks:
    """A mean over tasks with the ends of its interval, None where nothing is known of the spread."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """The rows of one backbone and suite, compared with each other.

    Attributes:
        rows: the planned runs by label.
        ranked: the labels of the rows that are ranked: no reference, neither limited nor stale.
        tasks: the columns.
    """

    rows: dict[str, list[RunEntry]]
    ranked: tuple[str, ...]
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, entries: Sequence[RunEntry]) -> "Standing":
        """Return the standing of entries of one backbone and suite; equal arguments give the same object."""
        return _standing(tuple(entries))

    @property
    def keys(self) -> list[str]:
        """The columns of scores: the tasks, and AVERAGE where there are several."""
        return [*self.tasks, *[AVERAGE] * (len(self.tasks) > 1)]

    @cached_property
    def seeds(self) -> int:
        """The most seeds with a score that a row has on any task."""
        return max((part.seeds for of_row in self.estimates.values() for part in of_row.values()), default=0)

    @cached_property
    def estimates(self) -> dict[str, dict[str, Difference]]:
        """By label and column the mean score, as a difference to 0, with its variance."""
        raw = {label: _estimates(row, self.tasks) for label, row in self.rows.items()}
        for key in self.keys:
            pooled = pooled_scores(self.rows, dict.fromkeys(self.tasks if key == AVERAGE else [key], 1.0))
            for of_row in raw.values():
                if key in of_row:
                    of_row[key] = with_pooled_variance(of_row[key], pooled)
        return raw

    @cached_property
    def comparisons(self) -> Comparisons:
        """All pairs of ranked rows, with STANDARDISED and NORMALISED among the columns where there are these means."""
        rows = {label: self.rows[label] for label in self.ranked}
        if len(rows) < 2:
            return Comparisons({}, {})
        averages = {AVERAGE: dict.fromkeys(self.tasks, 1.0)} if len(self.tasks) > 1 else {}
        if self.complete:
            averages[STANDARDISED] = self.spreads
        if self.ends:
            averages[NORMALISED] = {task: high - low for task, (low, high) in self.ends.items()}
        return compare_rows(rows, self.tasks, averages)

    def run_scores(self, label: str) -> np.ndarray:
        """Return the scores of a row's runs that have all of them, as an array of tasks by runs."""
        runs = [entry for entry in self.rows[label] if entry.average(self.tasks) is not None]
        return np.array([[entry.score(task) for entry in runs] for task in self.tasks], dtype=float)

    @property
    def repeated(self) -> list[str]:
        """The complete rows with at least MIN_SEEDS runs, of which a distribution over runs can be drawn."""
        return [label for label in self.complete if self.run_scores(label).shape[1] >= MIN_SEEDS]

    def level_with_best(self, key: str) -> frozenset[str]:
        """Return the ranked rows that cannot be told apart from the best of a column, the best among them.

        Empty where there is nothing to compare, or where nothing is known of the spread.
        """
        if key in (MEAN_RANK, NORMALISED):
            means = {label: -each.value for label, each in self.mean_ranks.items()}
            if key == NORMALISED:
                means = {label: each.value for label, each in self.normalised.items() if label in self.ranked}
            column = STANDARDISED if key == MEAN_RANK else NORMALISED
        else:
            means = {label: self.estimates[label][key].mean for label in self.ranked if key in self.estimates[label]}
            column = key
        if len(means) < 2:
            return frozenset()
        return self.comparisons.level_with(column, max(means, key=lambda label: means[label]), list(means))

    @cached_property
    def complete(self) -> tuple[str, ...]:
        """The ranked rows with a score on every task, of which a mean over tasks can be taken."""
        complete = [label for label in self.ranked if _complete(self.rows[label], self.tasks)]
        return tuple(complete) if len(self.tasks) > 1 and len(complete) > 1 else ()

    @cached_property
    def leader(self) -> str | None:
        """The ranked row with the best mean rank, of equal ones the first; on one task that with the best score."""
        if self.mean_ranks:
            return min(self.mean_ranks, key=lambda label: self.mean_ranks[label].value)
        scored = {
            label: mean([part.mean for part in self.estimates[label].values()])
            for label in self.ranked
            if self.estimates[label]
        }
        return max(scored, key=lambda label: scored[label]) if len(scored) > 1 else None

    @cached_property
    def mean_ranks(self) -> dict[str, MeanOverTasks]:
        """The mean rank over tasks of each complete row, 1 the best; equal scores share the mean of their ranks."""
        if not self.complete:
            return {}
        means, draws = drawn_scores({label: self.rows[label] for label in self.complete}, self.tasks)
        return _with_intervals(self.complete, _ranks(means), None if draws is None else _ranks(draws))

    @cached_property
    def reference_rows(self) -> tuple[str, str] | None:
        """The labels of the rows that stand for 0 and 1 in the normalised mean, None where the sweep lacks one."""
        complete = [label for label, row in self.rows.items() if _complete(row, self.tasks) and not row_marks(row)]
        blind = [label for label in complete if self.rows[label][0].configuration.get("visual") == "zero"]
        lower = [*blind, *(label for label in complete if label == LOWER_END)]
        upper = [label for label in complete if self.rows[label][0].label == REFERENCE]
        return (lower[0], upper[0]) if lower and upper else None

    @cached_property
    def ends(self) -> dict[str, tuple[float, float]]:
        """By task the scores that stand for 0 and 1; empty where there are none, or where 1 is not above 0 on each."""
        if self.reference_rows is None or not self.complete:
            return {}
        zero, one = (self.estimates[label] for label in self.reference_rows)
        ends = {task: (zero[task].mean, one[task].mean) for task in self.tasks}
        return ends if all(high > low for low, high in ends.values()) else {}

    @cached_property
    def spreads(self) -> dict[str, float]:
        """By task the standard deviation of the scores over the complete rows."""
        spreads = {task: pstdev([self.estimates[label][task].mean for label in self.complete]) for task in self.tasks}
        return {task: spread if spread > 0 else 1.0 for task, spread in spreads.items()}

    @cached_property
    def normalised(self) -> dict[str, MeanOverTasks]:
        """The normalised mean of each row with all scores; empty where :attr:`ends` is.

        The two rows that stand for 0 and 1 have no interval; those of the others take their noise into account.
        """
        if not self.ends or self.reference_rows is None:
            return {}
        labels = [label for label, row in self.rows.items() if _complete(row, self.tasks)]
        means, draws = drawn_scores({label: self.rows[label] for label in labels}, self.tasks)
        low, high = (labels.index(label) for label in self.reference_rows)

        def scaled(scores: np.ndarray) -> np.ndarray:
            zero, one = scores[..., [low], :], scores[..., [high], :]
            return ((scores - zero) / (one - zero)).mean(axis=-1)

        by_label = _with_intervals(labels, scaled(means), None if draws is None else scaled(draws))
        return by_label | {labels[at]: MeanOverTasks(by_label[labels[at]].value) for at in (low, high)}


@lru_cache(maxsize=32)
def _standing(entries: tuple[RunEntry, ...]) -> Standing:
    rows = entries_by_label(entries)
    tasks = task_order(entries)
    ranked = [
        label
        for label, row in rows.items()
        if not is_reference(row)
        and not row_marks(row)
        and any(e.score(task) is not None for e in row for task in tasks)
    ]
    return Standing(rows, tuple(ranked), tuple(tasks))


def standings(entries: Sequence[RunEntry]) -> list[Standing]:
    """Return the standing on each backbone and suite."""
    return [Standing.of(group) for group in group_entries(entries, "backbone", "suite")]


def _complete(row: Sequence[RunEntry], tasks: Sequence[str]) -> bool:
    return any(entry.average(tasks) is not None for entry in row)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """The mean rank over the last axis, the tasks, of every row in the axis before it."""
    from scipy import stats

    return stats.rankdata(-np.round(scores, DECIMALS), axis=-2).mean(axis=-1)


def _with_intervals(labels: Sequence[str], values: np.ndarray, draws: np.ndarray | None) -> dict[str, MeanOverTasks]:
    if draws is None:
        return {label: MeanOverTasks(float(value)) for label, value in zip(labels, values, strict=True)}
    ends = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        label: MeanOverTasks(float(value), (float(low), float(high)))
        for label, value, low, high in zip(labels, values, *ends, strict=True)
    }


def _estimates(row: Sequence[RunEntry], tasks: Sequence[str]) -> dict[str, Difference]:
    """The mean scores of a row by task, and with several tasks their average, each without its seed variance."""
    parts: dict[str, Difference] = {}
    for task in tasks:
        runs = [(score, entry.examples.get(task)) for entry in row if (score := entry.score(task)) is not None]
        if runs:
            parts[task] = paired_difference([score for score, _ in runs], _series(runs))
    averages = finite_only(entry.average(tasks) for entry in row)
    if len(tasks) > 1 and averages:
        parts[AVERAGE] = average_difference([parts[task] for task in tasks], averages)
    return parts


def _series(runs: Sequence[tuple[float, pd.Series | None]]) -> list[pd.Series]:
    return [by_occurrence(examples) for _, examples in runs if examples is not None]
