"""What runs will cost, from what like ones have cost: seconds on the same hardware, bytes on disk."""

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

BYTES = 4  # of a trained number in a run's folder


@dataclass(frozen=True)
class Price:
    """Seconds of one run on ``hardware`` and bytes that it leaves on disk; None where nothing like it was measured."""

    seconds: float | None = None
    disk: int | None = None
    hardware: str = ""


class CostModel:
    """The records of a results folder, as a price list."""

    def __init__(self, results: Path) -> None:
        self.results = results

    @cached_property
    def records(self) -> list[Record]:
        """Every whole run that finished, the latest first."""
        done = [r for r in load_records(self.results)[0] if r.status == "done" and r.time.get("step_seconds")]
        return sorted(done, key=lambda record: record.finished, reverse=True)

    def price(self, run: Run, trainable: int) -> Price:
        """Estimate a run: median step time of the runs most like it, times its steps, and the rest as it was there.

        Runs are like it that share backbone, suite, precision and tasks, better still method, and best its options;
        times are those of the hardware on which the latest of them ran. Steps grow with the batch size.

        Args:
            run: what is to run.
            trainable: its number of trained parameters.
        """
        like = next((found for found in self._like(run) if found), [])
        if not like:
            return Price()
        hardware = str(like[0].environment.get("hardware") or "")
        here = [record for record in like if record.environment.get("hardware") == hardware]
        rest = median((r.time.get("total_seconds") or 0.0) - (r.time.get("train_seconds") or 0.0) for r in here)
        batch = run.recipe.batch_size
        step = median((r.time["step_seconds"] or 0.0) * batch / r.run.recipe.batch_size for r in here)
        steps = self.steps(run)
        disk = int(median(self._besides(record) for record in here)) + BYTES * trainable
        return Price(None if steps is None else steps * step + rest, disk, hardware)

    def _like(self, run: Run) -> Iterator[list[Record]]:
        def shared(other: Run) -> tuple[object, ...]:
            return other.backbone, other.suite, other.recipe.precision, other.tasks, other.recipe.limit

        like = [record for record in self.records if shared(record.run) == shared(run)]
        same = [record for record in like if record.run.method == run.method]
        yield [record for record in same if record.run.overrides == run.overrides]
        yield same
        yield like

    def steps(self, run: Run) -> int | None:
        """Return the updates of a run: those of its recipe, or its epochs of as many examples as the data have."""
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

    def _besides(self, record: Record) -> int:
        """Return the bytes of a run's folder but for its weights."""
        folder = RunDir(self.results, record.id)
        return sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file() and p != folder.weights)
