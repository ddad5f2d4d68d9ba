"""Pairs of runs that differ by one change: which scores of a cell and of its base may be subtracted from each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.report.paired_statistics import Difference, average_difference, paired_difference
from bench.report.run_entries import RunEntry
from bench.report.stats import mean

AVERAGE = "average"  # the key of the average over tasks, beside the names of tasks


@dataclass(frozen=True, eq=False)
class Pair:
    """A cell and its base with the same seed on one task: the two scores on the same examples.

    Attributes:
        by_example: the differences of the scores of the examples, indexed by their ids; None where they are not known.
        partial: whether one side was scored on further examples; both scores are then means over the common ones.
    """

    cell: float
    base: float
    by_example: pd.Series | None = None
    partial: bool = False

    @property
    def gap(self) -> float:
        """The difference of the two scores."""
        return self.cell - self.base


def pair(cell: RunEntry, base: RunEntry, task: str) -> Pair | None:
    """Return the scores of two runs on a task, None where there is nothing to compare.

    Where the scores of the examples are known on both sides, only examples with a finite score on both are compared.
    Where they are not, the two scores stand for the same examples unless the runs were limited to different numbers.
    """
    score, base_score = cell.score(task), base.score(task)
    if score is None or base_score is None:
        return None
    examples, base_examples = cell.examples.get(task), base.examples.get(task)
    if examples is None or base_examples is None:
        limits = [entry.configuration.get("limit") for entry in (cell, base)]
        return None if None not in limits and limits[0] != limits[1] else Pair(score, base_score)
    if examples.index.is_unique and examples.index.equals(base_examples.index):
        by_example = by_occurrence(examples) - by_occurrence(base_examples).to_numpy()
        if np.isfinite(by_example.to_numpy()).all():
            return Pair(score, base_score, by_example) if len(by_example) else None
    both = pd.concat([by_occurrence(examples), by_occurrence(base_examples)], axis=1, join="inner")
    both = both.loc[np.isfinite(both.to_numpy(dtype=float)).all(axis=1)]
    if both.empty:
        return None
    by_example = both.iloc[:, 0] - both.iloc[:, 1]
    if len(both) == len(examples) == len(base_examples):
        return Pair(score, base_score, by_example)
    return Pair(float(both.iloc[:, 0].mean()), float(both.iloc[:, 1].mean()), by_example, partial=True)


def by_occurrence(scores: pd.Series) -> pd.Series:
    """Return the scores of examples as numbers; a second example of one id is indexed as another than the first."""
    numbers = pd.to_numeric(scores, errors="coerce").astype(float)
    ids = pd.Index(scores.index)
    if ids.is_unique:
        return numbers
    return numbers.set_axis(pd.MultiIndex.from_arrays([ids, pd.Series(ids).groupby(ids).cumcount()]))


@dataclass(frozen=True)
class PairedRows:
    """The pairs of a cell and its base by task and seed, over the tasks that both were planned on.

    ``complete`` says whether these are all tasks of the base, so that there is an average to compare.
    """

    pairs: dict[str, dict[int, Pair]]
    complete: bool

    @classmethod
    def of(cls, cell: Sequence[RunEntry], base: Sequence[RunEntry], tasks: Sequence[str]) -> "PairedRows":
        """Pair the runs of two rows by seed; ``tasks`` are those of the base."""
        partners = {entry.seed: entry for entry in base}
        both = [(entry, partners[entry.seed]) for entry in cell if entry.seed in partners]
        common = [task for task in tasks if not any(entry.lacks([task]) for entry in cell)]
        pairs = {
            task: {entry.seed: scores for entry, partner in both if (scores := pair(entry, partner, task)) is not None}
            for task in common
        }
        return cls(pairs, complete=bool(common) and len(common) == len(tasks))

    def difference(self, task: str) -> Difference | None:
        """Return the difference on a task, None where there is no pair."""
        pairs = list(self.pairs.get(task, {}).values())
        if not pairs:
            return None
        series = [pair.by_example for pair in pairs if pair.by_example is not None]
        return paired_difference([p.gap for p in pairs], series, partial=any(pair.partial for pair in pairs))

    def _average(self, parts: Sequence[Difference | None]) -> Difference | None:
        """The difference of the average over the tasks, of the seeds with a pair on every task."""
        seeds = self._complete_seeds()
        if not seeds:
            return None
        gaps = [mean([pairs[seed].gap for pairs in self.pairs.values()]) for seed in seeds]
        return average_difference([part for part in parts if part is not None], gaps)

    def differences(self, tasks: Sequence[str]) -> dict[str, Difference]:
        """Return the differences by task, over the seeds with a pair of scores, and with several tasks the average's.

        That of the average is over the seeds with pairs on all tasks; it is left out where the cell lacks a task.
        """
        candidates = {task: self.difference(task) for task in tasks}
        if len(tasks) > 1:
            candidates[AVERAGE] = self._average(list(candidates.values()))
        return {key: part for key, part in candidates.items() if part is not None}

    def _complete_seeds(self) -> list[int]:
        first = next(iter(self.pairs.values()), {})
        return [seed for seed in first if self.complete and all(seed in pairs for pairs in self.pairs.values())]

    def scores(self, tasks: Sequence[str]) -> np.ndarray:
        """Return the scores on the common examples, averaged over tasks, as two rows (base, cell) by seeds."""
        pairs = [self.pairs[task] for task in tasks]
        seeds = [seed for seed in pairs[0] if all(seed in by_seed for by_seed in pairs)]
        rows = [
            [mean([by_seed[seed].base for by_seed in pairs]) for seed in seeds],
            [mean([by_seed[seed].cell for by_seed in pairs]) for seed in seeds],
        ]
        return np.array(rows, dtype=float)


def score_matrix(
    base: Sequence[RunEntry], cells: Sequence[Sequence[RunEntry]], key: str, tasks: Sequence[str]
) -> np.ndarray:
    """Return the scores of one column as an array of rows (the base first) by seeds of the base.

    Cells that lack a score on one of these seeds are left out. ``tasks`` are those of the average.
    """
    seeds = [entry.seed for entry in base if score_of(entry, key, tasks) is not None]
    rows = []
    for entries in (base, *cells):
        scores = {entry.seed: score_of(entry, key, tasks) for entry in entries}
        if seeds and all(scores.get(seed) is not None for seed in seeds):
            rows.append([scores[seed] for seed in seeds])
    return np.array(rows, dtype=float).reshape(len(rows), len(seeds))


def score_of(entry: RunEntry, key: str, tasks: Sequence[str]) -> float | None:
    """Return the score on a task, or for AVERAGE the average over ``tasks``; None where there is none."""
    return entry.average(tasks) if key == AVERAGE else entry.score(key)
