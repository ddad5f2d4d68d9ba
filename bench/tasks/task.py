"""What a task is: data and two functions, one that reads the official files and one that scores predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Example:
    """One example of a task.

    Attributes:
        id: what the official files call it, as a string; unique within a split.
        text: the source text without the task's prompt.
        visual: feature files relative to the data root: one, or two for a pair of images.
        answers: candidate targets with their scores; training draws one in proportion to the scores. Empty where the
            split has no labels.
        reference: what scoring needs, as plain JSON values.
    """

    id: str
    text: str
    visual: tuple[str, ...]
    answers: tuple[tuple[str, float], ...] = ()
    reference: Any = None


@dataclass(frozen=True)
class Decode:
    """How answers are decoded: ``generate`` with beams (None: the recipe's), or ``binary``, the NLVR2 decision between
    true and false."""

    mode: str = "generate"
    beams: int | None = None
    max_length: int = 20


Reader = Callable[[Path, str], list[Example]]
Scorer = Callable[[Sequence[Example], Sequence[str]], dict[str, float]]
EachScorer = Callable[[Sequence[Example], Sequence[Sequence[str]]], list[list[float]]]


@dataclass(frozen=True, eq=False)
class Task:
    """One task of a suite.

    Attributes:
        name, label, suite, order: identity, title in tables, and place among the tasks.
        visual: ``grid`` (h5 per image) or ``frames`` (npz per video).
        prompt: the official prompt; with ``prompt_at`` "front" it precedes the text, with "back" it follows after a
            space.
        source_limit, target_limit: token limits, special tokens included; None for no limit.
        share: batch size as a part of the recipe's (numerator, denominator).
        loss: reduction of :mod:`bench.losses`.
        decode: how answers are decoded.
        metric: the score that tables print, in their unit (accuracy in %, CIDEr x 100).
        splits: official files by logical split (train, validation, test).
        official_sizes: examples of the splits in the published files, where their number is known.
        report_split: the split that the paper's tables report.
        read: reads one logical split from a data root.
        score: all metrics of the task from examples and predictions.
        score_each: the reported metric of every single example, for the predictions of several runs on the same
            examples; None where an example's score does not depend on the others.
    """

    name: str
    label: str
    suite: str
    order: int
    visual: str
    prompt: str
    prompt_at: str
    source_limit: int | None
    target_limit: int | None
    share: tuple[int, int]
    loss: str
    decode: Decode
    metric: str
    splits: dict[str, str]
    report_split: str
    read: Reader = field(repr=False)
    score: Scorer = field(repr=False)
    score_each: EachScorer | None = field(default=None, repr=False)
    official_sizes: dict[str, int] = field(default_factory=dict)

    def source(self, example: Example, prefix: bool) -> str:
        """Return the encoder's text. Without prompts a video text still ends with the space before the prompt (quirk
        TRAIL-SPACE)."""
        prompt = self.prompt if prefix else ""
        return f"{prompt}{example.text}" if self.prompt_at == "front" else f"{example.text} {prompt}"

    def each(self, examples: Sequence[Example], said: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return, for the predictions of each of several runs, the reported metric of every example."""
        if self.score_each is not None:
            return self.score_each(examples, said)
        return [
            [self.score([e], [p])[self.metric] for e, p in zip(examples, predictions, strict=True)]
            for predictions in said
        ]

    def batch_size(self, recipe: int) -> int:
        """Return the batch size of this task for the recipe's, as the official code derives it.

        >>> from bench import tasks
        >>> [tasks.get(name).batch_size(500) for name in tasks.names("image-text")]
        [500, 833, 166, 416]
        """
        return max(1, recipe * self.share[0] // self.share[1])
