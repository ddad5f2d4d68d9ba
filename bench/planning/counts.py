"""Numbers of examples, and the updates that follow from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench import tasks
from bench.config import MINI, Run
from bench.data.roots import is_synthetic, locate
from bench.errors import UsageError
from bench.tasks import Task

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SplitCount:
    """The number of examples of one split of a task.

    Attributes:
        split: what the official files call it.
        examples: their number; None where it is neither published nor counted.
        published: the number in the published files, None where none is published.
        fault: why the split could not be read in the data root that was given, "" where it was or none was given.
    """

    split: str
    examples: int | None
    published: int | None
    fault: str = ""

    @property
    def is_incomplete(self) -> bool:
        """Whether a data root was read that has not the published examples."""
        return bool(self.fault) or (self.published is not None and self.examples != self.published)


class ExampleCounts:
    """Counts the examples of splits: in the data root that was given, else as published.

    A miniature root is counted too, where it was generated before. Every split is read once.
    """

    def __init__(self, folders: Mapping[str, Path], progress: Progress = lambda line: None) -> None:
        self._folders = dict(folders)
        self._progress = progress
        self._read = cache(self._read_uncached)

    def is_given(self, run: Run) -> bool:
        """Return whether a folder was given for the data root of a run."""
        return run.data in self._folders

    def root(self, run: Run) -> Path | None:
        """Return the folder that a run's examples are counted in; None where the published numbers count.

        Raises:
            UsageError: a folder was given that is not there.
        """
        if run.data in self._folders:
            return locate(run.data, run.suite, self._folders)
        try:
            return locate(run.data, run.suite, {}, make=False) if run.data == MINI else None
        except UsageError:  # not generated yet
            return None

    def count(self, run: Run, task: Task, split: str) -> SplitCount:
        """Return the number of examples of a logical split that a run reads; its recipe's ``limit`` is not applied.

        Raises:
            UsageError: a folder was given that is not there.
        """
        root = self.root(run)
        published = None if run.data == MINI else task.official_sizes.get(split)
        if root is None:
            return SplitCount(task.splits[split], published, published)
        if is_synthetic(root):
            published = None
        examples, fault = self._read(root, task.name, split)
        return SplitCount(task.splits[split], published if fault else examples, published, fault)

    def _read_uncached(self, root: Path, name: str, split: str) -> tuple[int | None, str]:
        from bench.data import example_tables  # imports numpy

        self._progress(f"counting the examples of {name} {split} in {root}")
        try:
            return len(example_tables.read(tasks.get(name), root, split)), ""
        except UsageError as fault:
            return None, str(fault)
        finally:
            self._progress("")


def training_plan(run: Run, examples: Mapping[str, int | None]) -> Any:
    """Return the :class:`bench.train.TrainingPlan` of a run on so many training examples of each task.

    It is that of the training itself, whose data are here only as long as the real ones. None where the number of
    examples of a task is not known; the updates of a recipe with ``steps`` do not depend on it.
    """
    from bench.train import TrainingPlan  # imports torch

    counted = {name: number for name, number in examples.items() if number}
    if len(counted) < len(run.tasks):
        return None
    limit = run.recipe.limit
    data: dict[str, Any] = {name: range(min(limit or number, number)) for name, number in counted.items()}
    return TrainingPlan.of(run.task_list, data, run.recipe)
