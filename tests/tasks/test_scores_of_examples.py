"""Scores of single examples: their mean is the reported score, whatever the task."""

import random
from pathlib import Path

import pytest

from bench import tasks
from bench.metrics import caption


@pytest.mark.parametrize("name", tasks.names())
def test_the_reported_score_is_the_mean_over_examples(name: str, tiny_root: Path) -> None:
    task = tasks.get(name)
    examples = task.read(tiny_root, "validation")
    draw = random.Random(3)
    targets = [answer for e in examples for answer, _ in e.answers] or ["true", "false"]
    predictions = [draw.choice(targets) for _ in examples]
    scores = task.score(examples, predictions)
    assert len(scores.examples) == len(examples)
    assert sum(scores.examples) / len(examples) == pytest.approx(scores.metrics[task.metric], abs=0.01)


@pytest.mark.parametrize("name", ["caption", "tvc"])
def test_all_scores_of_captions_come_from_one_call_of_java(
    name: str, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    tokenize = caption.ptb_tokenize
    monkeypatch.setattr(caption, "ptb_tokenize", lambda texts: [calls.append(len(texts)), tokenize(texts)][1])
    task = tasks.get(name)
    examples = task.read(tiny_root, "validation")
    task.score(examples, ["a red star"] * len(examples))
    assert len(calls) == 1
