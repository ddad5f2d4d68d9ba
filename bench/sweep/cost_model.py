"""What runs will cost, estimated from finished runs that resemble them: seconds on their hardware, bytes on disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from bench.config import Run, is_mini
from bench.planning import throughput
from bench.planning.counts import ExampleCounts, training_plan
from bench.planning.disk import BYTES, disk
from bench.record_schema import Record
from bench.records import load_records
from bench.run_dir import RunDir


@dataclass(frozen=True)
class Price:
    """Seconds of one run on ``hardware`` and bytes that it leaves on disk, None where nothing is known of them.

    ``source`` says what they were estimated from. Seconds from the table of throughputs are those of the updates alone.
    """

    seconds: float | None = None
    disk: int | None = None
    hardware: str = ""
    source: str = ""


class CostModel:
    """Estimates prices of runs from the records of a results folder, or else from the table of throughputs.

    ``counts`` says how many examples the data roots have.
    """

    def __init__(self, results: Path, counts: ExampleCounts | None = None) -> None:
        self.results = results
        self.counts = counts or ExampleCounts({})

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
        are compared: that on which the latest similar run was executed. Where no similar run was, the table of measured
        throughputs gives the time (:mod:`bench.planning.throughput`), but not that of miniature models.

        Args:
            run: the run to estimate.
            trainable: its number of trained parameters.
        """
        similar = next((records for records in self._similar(run) if records), [])
        if not similar:
            return self._from_table(run, trainable)
        hardware = str(similar[0].environment.get("hardware") or "")
        records = [record for record in similar if record.environment.get("hardware") == hardware]
        rest = median((r.time.get("total_seconds") or 0.0) - (r.time.get("train_seconds") or 0.0) for r in records)
        batch = run.recipe.batch_size
        step = median((r.time["step_seconds"] or 0.0) * batch / r.run.recipe.batch_size for r in records)
        steps = self.steps(run)
        size = int(median(self._bytes_without_weights(record) for record in records)) + BYTES * trainable
        source = f"{len(records)} measured {'run' if len(records) == 1 else 'runs'} like it"
        return Price(None if steps is None else steps * step + rest, size, hardware, source)

    def _from_table(self, run: Run, trainable: int) -> Price:
        examples = self.examples(run)
        plan = training_plan(run, examples)
        if plan is None or is_mini(run.backbone):
            return Price()
        passes = plan.steps / sum(plan.sizes.values())
        trained = {name: int(passes * len(data)) for name, data in plan.data.items()}
        estimate = throughput.estimate(run, trained)
        reported = sum(self.counts.count(run, task, task.report_split).examples or 0 for task in run.task_list)
        return Price(estimate.seconds, disk(run, trainable, reported)["total"], estimate.hardware, estimate.source)

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
        """Return the number of updates of a run: its recipe's, or that of its epochs over the training examples; None
        where the number of examples of a task is not known."""
        if run.recipe.steps:
            return run.recipe.steps
        plan = training_plan(run, self.examples(run))
        return None if plan is None else int(plan.steps)

    def examples(self, run: Run) -> dict[str, int | None]:
        """Return the number of training examples of every task: those of the data root that was given, else those of an
        earlier run on the same data, else the published ones."""
        earlier: dict[str, int] = {}
        if not self.counts.is_given(run):
            earlier = next(
                (r.data["counts"] for r in self.records if self._same_data(r, run) and "counts" in r.data), {}
            )
        return {
            task.name: earlier.get(task.name) or self.counts.count(run, task, "train").examples
            for task in run.task_list
        }

    @staticmethod
    def _same_data(record: Record, run: Run) -> bool:
        return record.run.data == run.data and record.run.suite == run.suite and not record.limited

    def _bytes_without_weights(self, record: Record) -> int:
        """Return the size of a run directory without its weights, whose size depends on the method."""
        run_dir = RunDir(self.results, record.id)
        return sum(p.stat().st_size for p in run_dir.path.rglob("*") if p.is_file() and p != run_dir.weights)
