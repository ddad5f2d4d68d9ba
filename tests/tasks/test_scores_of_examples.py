"""Scores of single examples: their mean is the reported score, whatever the task."""

import random
from pathlib import Path

import pytest

from bench import tasks


@pytest.mark.parametrize("name", tasks.names())
def test_the_reported_score_is_the_mean_over_examples(name: str, tiny_root: Path) -> None:
    task = tasks.get(name)
    examples = task.read(tiny_root, "validation")
    draw = random.Random(3)
    targets = [answer for e in examples for answer, _ in e.answers] or ["true", "false"]
    said = [[draw.choice(targets) for _ in examples] for _ in range(2)]
    for predictions, scores in zip(said, task.each(examples, said), strict=True):
        assert len(scores) == len(examples)
        reported = task.score(examples, predictions)[task.metric]
        assert sum(scores) / len(scores) == pytest.approx(reported, abs=0.01)
