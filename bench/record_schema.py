"""The schema of ``record.json``: what a run was, how it ended, and what it scored and cost."""

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.config import Run

SCHEMA = 1


class ExtensibleModel(BaseModel):
    """Validated fields; fields that a newer version has added are kept when the content is written again."""

    model_config = ConfigDict(extra="allow")


class Failure(ExtensibleModel):
    """Why a run failed: the phase and update in which it did, the exception, and the end of its traceback."""

    phase: str
    step: int | None = None
    type: str
    message: str
    tail: list[str] = []


class EarlierScore(ExtensibleModel):
    """A score that another one took the place of: its own content, and when, why and by which version of the code."""

    status: Literal["done", "failed"]
    split: str
    metric: str
    metrics: dict[str, float] = {}
    n: int = 0
    error: str | None = None
    edition: str | None = None
    replaced_at: str
    replaced_by: dict[str, Any] = {}
    reason: str = ""


class Score(ExtensibleModel):
    """The outcome of one task: its metrics, or the error that the metric raised.

    ``edition`` names the implementation of the metric, where it is recorded; ``history`` has the scores that this one
    took the place of, the oldest first.
    """

    status: Literal["done", "failed"]
    split: str
    metric: str
    metrics: dict[str, float] = {}
    n: int = 0
    error: str | None = None
    edition: str | None = None
    history: list[EarlierScore] = []

    @property
    def value(self) -> float | None:
        """The reported metric in the unit that tables print; None where the metric failed."""
        return self.metrics.get(self.metric)


class Evaluation(ExtensibleModel):
    """A later evaluation of the kept weights of a run that had a record already, or one that failed.

    ``number`` names its folder below ``evaluations/``. ``split`` is the logical split, or "reported" for the split that
    each task's table reports; the scores of a repeated evaluation of that one are in the record's ``scores``.
    """

    number: int
    split: str
    when: str
    version: dict[str, Any] = {}
    status: Literal["done", "failed"] = "done"
    scores: dict[str, Score] = {}
    cause: str | None = None
    error: Failure | None = None


class Record(ExtensibleModel):
    """The content of record.json. Times are seconds, sizes bytes; what a device cannot tell is null.

    ``selected`` is the step and validation mean of the epoch whose weights are reported, where one was selected;
    ``imported`` says from which released checkpoint the weights came.
    """

    schema_: int = SCHEMA
    id: str
    status: Literal["done", "failed"]
    cause: Literal["oom", "nan", "timeout", "interrupted", "error", "unsupported"] | None = None
    error: Failure | None = None
    run: Run
    environment: dict[str, Any] = {}
    data: dict[str, Any] = {}
    parameters: dict[str, float] = {}
    time: dict[str, float | None] = {}
    memory: dict[str, Any] = {}
    selected: dict[str, float] | None = None
    imported: dict[str, Any] | None = None
    scores: dict[str, Score] = {}
    evaluations: list[Evaluation] = []
    segments: list[dict[str, Any]] = []
    limited: bool = False
    finished: str = ""


def classify(error: BaseException) -> str:
    """Return the cause that tables print for an exception.

    >>> classify(MemoryError()), classify(FloatingPointError()), classify(KeyError())
    ('oom', 'nan', 'error')
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    message = str(error).lower()
    if names & {"OutOfMemoryError", "MemoryError"} or "out of memory" in message or "not enough memory" in message:
        return "oom"
    table = {
        "FloatingPointError": "nan",
        "TimeoutError": "timeout",
        "TimeoutExpired": "timeout",
        "KeyboardInterrupt": "interrupted",
        "MethodError": "unsupported",
    }
    return next((cause for name, cause in table.items() if name in names), "error")


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
