"""What the readers of annotation files accept although it is odd, with the reason, and how often they met it.

The published files contain records that a strict reader would refuse, and a benchmark that refuses the published files
is of no use. Each kind of them has a name here; ``data check`` prints how many there are, and records keep the numbers.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum


class Tolerance(StrEnum):
    """The kinds; each value is what the check and the records call it."""

    BLANK_TEXT = "blank questions or statements"
    BLANK_OPTION = "blank options"
    BLANK_TARGET = "blank captions"
    EQUAL_OPTIONS = "questions with equal options"
    ODD_TIME_SPAN = "odd time spans"
    ODD_DURATION = "odd durations"
    NO_SOFT_LABEL = "questions without a soft label"
    NOT_TEN_ANSWERS = "questions with other than ten human answers"
    NO_DESCRIPTIONS = "clips without descriptions, left out"
    NO_SUBTITLES = "examples of videos without subtitles, left out"
    EMPTY_TRANSCRIPT = "examples with an empty transcript"
    LONG_TRANSCRIPT = "examples with a transcript cut to 20,000 characters"
    REPEATED_EXAMPLE = "repeated examples"
    REPEATED_IN_FILES = "examples that stand in two files"
    REPEATED_SUBTITLES = "videos with the same subtitles twice"
    REPEATED_ANSWERS = "questions with the same human answers twice"
    BEYOND_POSITIONS = "texts cut to the positions of the model"
    SHARED_ID = "training examples with an id of another one"


REASONS = {
    Tolerance.BLANK_TEXT: "the model is given an empty text, as by the official code",
    Tolerance.BLANK_OPTION: "the option keeps its letter, as in the official code",
    Tolerance.BLANK_TARGET: "trained on as an empty caption; one of several references of an image",
    Tolerance.EQUAL_OPTIONS: "the published files of TVQA and How2QA have some; only the marked one counts as right",
    Tolerance.ODD_TIME_SPAN: "TVQA has 'nan-nan'; the span is given as text and computed with nowhere",
    Tolerance.ODD_DURATION: "the official readers demand the key and use it for nothing",
    Tolerance.NO_SOFT_LABEL: "VQA v2 has them; they train with weight 0 (quirk VQA-ZERO)",
    Tolerance.NOT_TEN_ANSWERS: "scored by the answers that are there",
    Tolerance.NO_DESCRIPTIONS: "there is nothing to train on or to compare with",
    Tolerance.NO_SUBTITLES: "a video costs its examples, not its task",
    Tolerance.EMPTY_TRANSCRIPT: "videos in which nobody speaks exist",
    Tolerance.LONG_TRANSCRIPT: "the task keeps its first tokens only (quirk SUBS-TRUNC)",
    Tolerance.REPEATED_EXAMPLE: "trained on each time, as by the official code; evaluated once",
    Tolerance.REPEATED_IN_FILES: "TVQA's public questions do (quirk TVQA-DUP); the later one counts",
    Tolerance.REPEATED_SUBTITLES: "they agree",
    Tolerance.REPEATED_ANSWERS: "they agree",
    Tolerance.BEYOND_POSITIONS: "counted when a run encodes its texts; the published backbones have enough of them",
    Tolerance.SHARED_ID: "ids of training examples are used for nothing",
}

_counter: ContextVar["Counter[str] | None"] = ContextVar("tolerances", default=None)


def tolerate(kind: Tolerance, number: int = 1) -> None:
    """Count something that is accepted, for whoever reads within :func:`counting`."""
    counter = _counter.get()
    if counter is not None and number:
        counter[kind.value] += number


@contextmanager
def counting() -> Iterator["Counter[str]"]:
    """Collect what readers tolerate within the block, in a counter of its own."""
    counter: Counter[str] = Counter()
    token = _counter.set(counter)
    try:
        yield counter
    finally:
        _counter.reset(token)
