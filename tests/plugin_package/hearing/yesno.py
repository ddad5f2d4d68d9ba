"""A ninth task of image-text: the questions of VQA v2 that are answered by yes or no."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.tasks import Example, TaskScores
from bench.tasks.vqa import TASK as VQA

ANSWERS = {"yes", "no"}


def read(root: Path, split: str) -> list[Example]:
    """Read a split of VQA v2 and keep the questions whose every answer is yes or no."""
    return [e for e in VQA.read(root, split) if e.answers and {answer for answer, _ in e.answers} <= ANSWERS]


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return ``accuracy`` in %: the soft label of the exact string."""
    points = [100 * e.reference["label"].get(p, 0.0) for e, p in zip(examples, predictions, strict=True)]
    return TaskScores({"accuracy": sum(points) / len(points)}, points)


TASK = replace(
    VQA,
    name="yesno",
    label="VQA yes/no",
    order=0,  # before every task but VQA: it still comes behind the official ones
    prompt="yesno: ",
    metric_edition="exact match",
    official_sizes={},
    read=read,
    score=score,
    version=2,
)
