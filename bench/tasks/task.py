"""What a task is: data and two functions, one that reads the official files and one that scores predictions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec


class Example(msgspec.Struct, frozen=True, gc=False):  # a million are made in the time of 100,000 dataclasses
    """One example of a task.

    Attributes:
        id: what the official files call it, as a string; unique within a split.
        text: the source text without the task's prompt.
        visual: feature files relative to the data root: one, or two for a pair of images.
        answers: candidate targets with their scores; training draws one in proportion to the scores. Empty where the
            split has no labels.
        reference: what scoring needs, as plain JSON values; None where nothing is public.
        official: fields by which the files of official tools name the example, where that is not its id.
        transcript: the span of characters of ``text`` that is context and may be cut before anything else.
    """

    id: str
    text: str
    visual: tuple[str, ...]
    answers: tuple[tuple[str, float], ...] = ()
    reference: Any = None
    official: dict[str, Any] | None = None
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


@dataclass(frozen=True)
class Entry:
    """One prediction of a file: what the file calls the example, the prediction, and where it stands."""

    key: str
    prediction: str
    place: str


@dataclass(frozen=True)
class FileFormat:
    """A form of files with predictions that an evaluation server or official tool takes.

    Attributes:
        title: what messages call the form.
        suffix: the ending of the names of such files.
        key: ``example -> what such a file calls it``, as a string. Examples with the same one share an entry.
        write: ``(examples, predictions) -> content``; the keys of the examples are different.
        read: ``content -> entries``, None where the content is of another form. UsageError for a faulty entry.
    """

    title: str
    suffix: str
    key: Callable[[Example], str]
    write: Callable[[Sequence[Example], Sequence[str]], str]
    read: "Callable[[FileContent], Iterator[Entry] | None]"


@dataclass(frozen=True)
class FileContent:
    """The content of a file with predictions before its form is recognised.

    Attributes:
        file: where it was read.
        kind: ``list`` or ``object`` of one JSON value, JSON ``lines``, or a ``table`` of comma-separated values.
        items: place and value of every element, line or row; of an object's members the value is the pair.
    """

    file: Path
    kind: str
    items: list[tuple[str, Any]]


ReadSplit = Callable[[Path, str], list[Example]]
ScorePredictions = Callable[[Sequence[Example], Sequence[str]], TaskScores]
ScoreSlowMetric = Callable[[Sequence[Example], Sequence[str]], dict[str, float]]


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
        sizes_are_counted: whether these sizes were counted, or are what may be in the files by their documentation.
        report_split: the split that the paper's tables report.
        read: ``(data root, logical split) -> examples``.
        score: ``(examples, predictions) -> TaskScores``.
        slow_metrics: further metrics by name, computed on request only: ``(examples, predictions) -> metrics``.
        unanswered: files, below the data root, of further splits by name. They have no public answers, so they can only
            be predicted, and may be added when runs are done.
        file_format: the form of files that official tools take.
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
    sizes_are_counted: bool = True
    version: int = 1
    slow_metrics: Mapping[str, ScoreSlowMetric] = field(default_factory=dict, repr=False)
    unanswered: Mapping[str, str] = field(default_factory=dict)
    file_format: FileFormat | None = field(default=None, repr=False)

    def source(self, example: Example, prefix: bool) -> str:
        """Return the encoder's text. Without prompts a video text still ends with the space before the prompt (quirk
        TRAIL-SPACE)."""
        return self.source_of(example.text, prefix)

    def source_of(self, text: str, prefix: bool) -> str:
        """Return the encoder's text for an example's text."""
        prompt = self.prompt if prefix else ""
        return f"{prompt}{text}" if self.prompt_at == "front" else f"{text} {prompt}"

    def batch_size(self, recipe: int) -> int:
        """Return the batch size of this task for the recipe's, as the official code derives it.

        >>> from bench import tasks
        >>> [tasks.get(name).batch_size(500) for name in tasks.names("image-text")]
        [500, 833, 166, 416]
        """
        return max(1, recipe * self.share[0] // self.share[1])
