"""What runs will cost, estimated from finished runs that resemble them: seconds on their hardware, bytes on disk."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from bench.config import Run
from bench.record_schema import Record
from bench.records import load_records
from bench.run_dir import RunDir

BYTES = 4  # per trained number in the weights of a run, which are kept in single precision


@dataclass(frozen=True)
class Price:
    """Seconds of one run on ``hardware`` and bytes that it leaves on disk; None where no similar run was measured."""

    seconds: float | None = None
    disk: int | None = None
    hardware: str = ""


class CostModel:
    """Estimates prices of runs from the records of a results folder."""

    def __init__(self, results: Path) -> None:
        self.results = results

    @cached_property
    def records(self) -> list[Record]:
        """The records of finished runs whose steps were timed, latest first."""
        timed = [r for r in load_records(self.results)[0] if r.status == "done" and r.time.get("step_seconds")]
        return sorted(timed, key=lambda record: record.finished, reverse=True)

    def price(self, run: Run, trainable: int) -> Price:
        """Estimate a run from the most similar finished runs.

        Similar runs share backbone, suite, precision and tasks; those that also share the method come first, and those
        that share its options before them. The estimate is their median time of a step, in proportion to the batch
        size, times the steps of the run, plus their median time outside of training. Only times on one kind of hardware
        are compared: that on which the latest similar run was executed.

        Args:
            run: the run to estimate.
            trainable: its number of trained parameters.
        """
        similar = next((records for records in self._similar(run) if records), [])
        if not similar:
            return Price()
        hardware = str(similar[0].environment.get("hardware") or "")
        records = [record for record in similar if record.environment.get("hardware") == hardware]
        rest = median((r.time.get("total_seconds") or 0.0) - (r.time.get("train_seconds") or 0.0) for r in records)
        batch = run.recipe.batch_size
        step = median((r.time["step_seconds"] or 0.0) * batch / r.run.recipe.batch_size for r in records)
        steps = self.steps(run)
        disk = int(median(self._bytes_without_weights(record) for record in records)) + BYTES * trainable
        return Price(None if steps is None else steps * step + rest, disk, hardware)

    def _similar(self, run: Run) -> Iterator[list[Record]]:
        """Yield lists of similar records, the most similar ones first; a list may be empty."""

        def traits(other: Run) -> tuple[object, ...]:
            return other.backbone, other.suite, other.recipe.precision, other.tasks, other.recipe.limit

        similar = [record for record in self.records if traits(record.run) == traits(run)]
        same_method = [record for record in similar if record.run.method == run.method]
        yield [record for record in same_method if record.run.overrides == run.overrides]
        yield same_method
        yield similar

    def steps(self, run: Run) -> int | None:
        """Return the number of updates of a run: its recipe's, or that of its epochs over the training examples.

        The numbers of examples are those of earlier runs on the same data, else the official ones; None where a task
        has neither.
        """
        if run.recipe.steps:
            return run.recipe.steps
        counts: dict[str, int] = next(
            (r.data["counts"] for r in self.records if self._same_data(r, run) and "counts" in r.data), {}
        )
        total = 0
        for task in run.task_list:
            count = counts.get(task.name) or task.official_sizes.get("train")
            if count is None:
                return None
            limit = run.recipe.limit or count
            total += math.ceil(min(limit, count) / task.batch_size(run.recipe.batch_size))
        return run.recipe.epochs * total

    @staticmethod
    def _same_data(record: Record, run: Run) -> bool:
        return record.run.data == run.data and record.run.suite == run.suite and not record.limited

    def _bytes_without_weights(self, record: Record) -> int:
        """Return the size of a run directory without its weights, whose size depends on the method."""
        run_dir = RunDir(self.results, record.id)
        return sum(p.stat().st_size for p in run_dir.path.rglob("*") if p.is_file() and p != run_dir.weights)
