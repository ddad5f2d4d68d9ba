"""The check of a data root, and its fingerprint."""

import hashlib
from collections.abc import Iterable, Mapping, Sized
from functools import lru_cache
from pathlib import Path

from bench import suites
from bench.data.features import FeatureStore
from bench.data.roots import is_synthetic
from bench.errors import UsageError
from bench.suites import Suite
from bench.tasks import Example, Task


def check(root: Path, suite: str, sample: int = 20) -> tuple[list[str], list[str]]:
    """Read every split of every task of a suite, look for every feature file, and read about ``sample`` of each split.

    Returns:
        What is right, one line per split with its number of examples (and the official number where it is another,
            unless the root is synthetic), and what is wrong: the first fault of each split.
    """
    right, wrong = [], []
    inspector = _Inspector(root, suites.get(suite), sample)
    for task in suites.get(suite).tasks:
        for split in task.splits:
            try:
                number = inspector.examine(task, split)
                official = number if is_synthetic(root) else task.official_sizes.get(split, number)
                note = "" if number == official else f"; the official files have {official:,}"
                right.append(f"{task.name} {split}: {number:,} examples ({task.splits[split]}){note}")
            except UsageError as fault:
                wrong.append(f"{task.name} {split}: {fault}")
    return right, wrong


class _Inspector:
    """Examines the splits of one suite, whose features must have the same number of columns."""

    def __init__(self, root: Path, suite: Suite, sample: int) -> None:
        self._root = root
        self._sample = sample
        self._store = FeatureStore(root, suite.features.kind)
        self._present: dict[str, set[str]] = {}  # names in each feature folder
        self._width: tuple[int, str] | None = None  # columns, and the file that has them

    def examine(self, task: Task, split: str) -> int:
        """Return the number of examples of a split; UsageError for what is wrong with it."""
        examples = task.read(self._root, split)
        if not examples:
            raise UsageError(f"{self._root}: {task.name} {split} has no examples")
        self._look_for(dict.fromkeys(name for example in examples for name in example.visual))
        for example in examples[:: max(1, len(examples) // self._sample)]:
            self._measure(example)
        return len(examples)

    def _look_for(self, names: Iterable[str]) -> None:
        missing = [name for name in names if not self._has(name)]
        if missing:
            others = f", like {len(missing) - 1} more of this split" if len(missing) > 1 else ""
            raise UsageError(f"{self._root / missing[0]}: no such feature file{others}; fetch or extract the features")

    def _has(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if folder not in self._present:
            path = self._root / folder
            self._present[folder] = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        return file in self._present[folder]

    def _measure(self, example: Example) -> None:
        width, name = self._store.load(example).shape[-1], example.visual[0]
        self._width = self._width or (width, name)
        if width != self._width[0]:
            raise UsageError(
                f"{self._root / name}: features of {width} columns, but {self._width[1]} has {self._width[0]}; "
                "a suite needs one kind of features"
            )


@lru_cache
def fingerprint(root: Path, suite: str) -> str:
    """Return 12 hexadecimal digits over the names and contents of a suite's annotation files."""
    total = hashlib.sha256()
    for pattern in suites.get(suite).annotations:
        for path in sorted(root.glob(pattern)):
            total.update(str(path.relative_to(root)).encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def counts(sets: Mapping[str, Sized]) -> dict[str, int]:
    """Return the number of training examples per task."""
    return {name: len(data) for name, data in sets.items()}
