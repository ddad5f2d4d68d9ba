"""The schema of ``record.json``: what a run was, how it ended, and what it scored and cost."""

import math
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.config import Run

SCHEMA = 1
#: the highest value of the metrics whose names begin so, in the unit that tables print
HIGHEST = {"accuracy": 100.0, "BLEU": 100.0, "METEOR": 100.0, "ROUGE": 100.0, "SPICE": 100.0, "CIDEr": 1000.0}


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

    ``edition`` names the implementation of the metric, ``rows`` is a digest of the predictions that were scored, both
    where they are recorded; ``history`` has the scores that this one took the place of, the oldest first.
    """

    status: Literal["done", "failed"]
    split: str
    metric: str
    metrics: dict[str, float] = {}
    n: int = 0
    error: str | None = None
    edition: str | None = None
    rows: str | None = None
    history: list[EarlierScore] = []

    @property
    def value(self) -> float | None:
        """The reported metric in the unit that tables print; None where the metric failed."""
        return self.metrics.get(self.metric)

    def summary(self, task: str) -> str:
        """Return a line on the score of a task, whose title is given."""
        value = self.value
        return f"{task} {self.metric} " + (f"failed ({self.error})" if value is None else f"{value:.2f}")


class Evaluation(ExtensibleModel):
    """A later evaluation of the kept weights of a run that had a record already, or one that failed.

    ``number`` names its folder below ``evaluations/``. ``split`` is the logical split, or "reported" for the split that
    each task's table reports; the scores of a repeated evaluation of that one are in the record's ``scores``.
    ``merged`` says that the method was folded into the backbone's weights.
    """

    number: int
    split: str
    when: str
    version: dict[str, Any] = {}
    merged: bool = False
    status: Literal["done", "failed"] = "done"
    scores: dict[str, Score] = {}
    cause: str | None = None
    error: Failure | None = None


class Record(ExtensibleModel):
    """The content of record.json. Times are seconds, sizes bytes; what a device cannot tell is null.

    ``selected`` is the step and validation mean of the epoch whose weights are reported, where one was selected;
    ``imported`` says from which released checkpoint the weights came. ``fingerprints`` is of what the run was made of
    (:mod:`bench.fingerprints`), empty in records of earlier versions; ``limited`` says that the scores are those of a
    part: of fewer examples than the recipe's, or of data that lack published examples (``data["lacks"]``); ``notes``
    are what a reader of the scores should know, such as a checkpoint that could not be used; ``diagnostics`` are what
    the method reports about its trained modules.
    """

    schema_: int = SCHEMA
    id: str
    status: Literal["done", "failed"]
    cause: Literal["oom", "nan", "timeout", "interrupted", "error", "unsupported"] | None = None
    error: Failure | None = None
    run: Run
    environment: dict[str, Any] = {}
    data: dict[str, Any] = {}
    fingerprints: dict[str, dict[str, str]] = {}
    parameters: dict[str, float] = {}
    time: dict[str, float | None] = {}
    memory: dict[str, Any] = {}
    selected: dict[str, float] | None = None
    imported: dict[str, Any] | None = None
    scores: dict[str, Score] = {}
    diagnostics: dict[str, float] = {}
    evaluations: list[Evaluation] = []
    segments: list[dict[str, Any]] = []
    limited: bool = False
    notes: list[str] = []
    finished: str = ""

    def fault(self) -> str:
        """Return what no run writes into a record, with the name of the field; "" where there is nothing of the kind.

        The types have been validated. This is about values: scores that a metric cannot have, and nested tables.
        """
        if self.schema_ > SCHEMA:
            return f"schema: {self.schema_} is of a newer version of this package, which reads {SCHEMA}"
        for task, score in self.scores.items():
            if fault := _score_fault(score):
                return f"scores.{task}.{fault}"
        phases, analytic = self.memory.get("phases", {}), self.memory.get("analytic", {})
        if not isinstance(phases, dict) or not all(isinstance(peaks, dict) for peaks in phases.values()):
            return "memory.phases: expected a table of tables"
        if not isinstance(analytic, dict):
            return "memory.analytic: expected a table"
        return ""


def _score_fault(score: Score) -> str:
    if score.status == "done" and score.metric not in score.metrics:
        return f"metrics: has no {score.metric!r}"
    for name, value in score.metrics.items():
        if math.isnan(value) and name != score.metric:
            continue  # a metric over no example, such as that of an empty category
        highest = next((limit for prefix, limit in HIGHEST.items() if name.startswith(prefix)), math.inf)
        if not 0 <= value <= highest * (1 + 1e-9) or math.isinf(value):
            limit = "" if math.isinf(highest) else f" to {highest:g}"
            return f"metrics.{name}: {value} is no value of this metric, expected 0{limit}"
    return ""


#: how torch and CUDA say in a RuntimeError that there is no memory left
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def classify(error: BaseException) -> str:
    """Return the cause that tables print for an exception.

    >>> classify(MemoryError()), classify(FloatingPointError()), classify(KeyError())
    ('oom', 'nan', 'error')
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    message = str(error).lower()
    if names & {"OutOfMemoryError", "MemoryError"} or any(words in message for words in NO_MEMORY):
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
