"""The check of a data root, and its fingerprint."""

import hashlib
from collections.abc import Mapping, Sized
from functools import lru_cache
from pathlib import Path

from bench import tasks
from bench.data.features import FeatureStore
from bench.errors import UsageError

FOLDERS = {"image-text": ("COCO", "vqa", "GQA", "nlvr"), "video-text": ("video/ann",)}


def check(root: Path, suites: list[str], sample: int = 20) -> tuple[list[str], list[str]]:
    """Read every split of every task and the features of ``sample`` examples of each.

    Returns:
        What was found to be right, one line per split with its number of examples, and what is wrong: the first fault
            of each split.
    """
    right, wrong = [], []
    for task in (task for suite in suites for task in tasks.suite(suite)):
        for split in task.splits:
            try:
                examples = task.read(root, split)
                if not examples:
                    raise UsageError(f"{root}: {task.name} {split} has no examples")
                store = FeatureStore(root)
                for example in examples[:: max(1, len(examples) // sample)]:
                    store.load(example)
                right.append(f"{task.name} {split}: {len(examples)} examples ({task.splits[split]})")
            except UsageError as fault:
                wrong.append(f"{task.name} {split}: {fault}")
    return right, wrong


@lru_cache
def fingerprint(root: Path, suite: str) -> str:
    """Return 12 hexadecimal digits over the names and contents of a suite's annotation files."""
    total = hashlib.sha256()
    for folder in FOLDERS.get(suite, (".",)):
        for path in sorted((root / folder).rglob("*.json*")):
            total.update(str(path.relative_to(root)).encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def counts(sets: Mapping[str, Sized]) -> dict[str, int]:
    """Return the number of training examples per task."""
    return {name: len(data) for name, data in sets.items()}
