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
        transcript: the span of characters of ``text`` that is context and may be cut before anything else.
    """

    id: str
    text: str
    visual: tuple[str, ...]
    answers: tuple[tuple[str, float], ...] = ()
    reference: Any = None
    transcript: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Decode:
    """How answers are decoded: ``generate`` with beams (None: the recipe's), or ``binary``, the NLVR2 decision between
    true and false."""

    mode: str = "generate"
    beams: int | None = None
    max_length: int = 20


@dataclass(frozen=True)
class TaskScores:
    """What a task's ``score`` makes of predictions.

    Attributes:
        metrics: all metrics of the task, by name, in the unit that tables print (accuracy in %, CIDEr x 100).
        examples: the reported metric of every example, in the order of the examples and in the same unit. Their mean
            is the reported score, up to the rounding that the metric itself does.
    """

    metrics: dict[str, float]
    examples: list[float]


ReadSplit = Callable[[Path, str], list[Example]]
ScorePredictions = Callable[[Sequence[Example], Sequence[str]], TaskScores]


@dataclass(frozen=True, eq=False)
class Task:
    """One task of a suite.

    Attributes:
        name, label, suite, order: identity, title in tables, and place among the tasks.
        prompt: the official prompt; with ``prompt_at`` "front" it precedes the text, with "back" it follows after a
            space.
        source_limit, target_limit: token limits, special tokens included; None for no limit.
        share: batch size as a part of the recipe's (numerator, denominator).
        loss: reduction of :mod:`bench.losses`.
        decode: how answers are decoded.
        metric: the score that tables print, in their unit (accuracy in %, CIDEr x 100).
        metric_edition: which definition of the metric this is, as records and score files name it.
        splits: official files by logical split (train, validation, test).
        official_sizes: number of examples of the splits in the published files, where it is known.
        report_split: the split that the paper's tables report.
        read: ``(data root, logical split) -> examples``.
        score: ``(examples, predictions) -> TaskScores``.
        version: raised when the same name comes to mean something else: other examples, prompts or targets. It is in
            the id of every run of the task.
    """

    name: str
    label: str
    suite: str
    order: int
    prompt: str
    prompt_at: str
    source_limit: int | None
    target_limit: int | None
    share: tuple[int, int]
    loss: str
    decode: Decode
    metric: str
    metric_edition: str
    splits: dict[str, str]
    report_split: str
    read: ReadSplit = field(repr=False)
    score: ScorePredictions = field(repr=False)
    official_sizes: dict[str, int] = field(default_factory=dict)
    version: int = 1

    def source(self, example: Example, prefix: bool) -> str:
        """Return the encoder's text. Without prompts a video text still ends with the space before the prompt (quirk
        TRAIL-SPACE)."""
        prompt = self.prompt if prefix else ""
        return f"{prompt}{example.text}" if self.prompt_at == "front" else f"{example.text} {prompt}"

    def batch_size(self, recipe: int) -> int:
        """Return the batch size of this task for the recipe's, as the official code derives it.

        >>> from bench import tasks
        >>> [tasks.get(name).batch_size(500) for name in tasks.names("image-text")]
        [500, 833, 166, 416]
        """
        return max(1, recipe * self.share[0] // self.share[1])
