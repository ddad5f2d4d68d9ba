"""Scores of predictions that were written to a run directory, and the rule by which a score may replace another.

No model is needed for any of this, so ``bench score`` can be used without torch.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.files import one_line
from bench.record_schema import EarlierScore, Score
from bench.run_dir import ExampleScores
from bench.surroundings import SurroundingsFault, explain, outside_of_training
from bench.tasks import Example, Task


class ScoredRows(NamedTuple):
    """The score of a task and that of every example, None where the metric failed."""

    score: Score
    examples: ExampleScores | None


def score_rows(task: Task, rows: Sequence[dict[str, Any]], split: str, slow_metrics: Sequence[str] = ()) -> ScoredRows:
    """Score the rows of a predictions file; what the metric raises becomes the error of a failed score.

    Args:
        task: the task that the predictions are of.
        rows: ``{"id", "prediction", "reference"}`` of every example of the split.
        split: what the record calls the split.
        slow_metrics: names of the task's slow metrics that are computed as well.

    Raises:
        SurroundingsFault: what the metric needs of the machine is not there, such as Java.
    """
    examples = [Example(row["id"], "", (), (), row["reference"]) for row in rows]
    facts: dict[str, Any] = {
        "split": split,
        "metric": task.metric,
        "n": len(rows),
        "edition": task.metric_edition,
        "rows": rows_digest(rows),
    }
    try:
        with outside_of_training(f"scoring {task.name}"):
            predictions = [row["prediction"] for row in rows]
            scores = task.score(examples, predictions)
            metrics = dict(scores.metrics)
            for name in slow_metrics:
                metrics |= task.slow_metrics[name](examples, predictions)
    except Exception as error:
        if (fault := explain(error)) and fault.name != "input":  # a metric reads no file, it calls a program
            raise SurroundingsFault("program", one_line(error)) if fault.name == "file" else fault from error
        message = f"{type(error).__name__}: {error}"
        if any(example.reference is None for example in examples):  # such as the training splits of VQA and COCO
            message = f"{task.name} {split} has no references to score against"
        return ScoredRows(Score(status="failed", error=message, **facts), None)
    return ScoredRows(
        Score(status="done", metrics=metrics, **facts),
        ExampleScores(
            metric=task.metric,
            edition=facts["edition"],
            split=split,
            ids=[example.id for example in examples],
            scores=scores.examples,
        ),
    )


def rows_digest(rows: Sequence[dict[str, Any]]) -> str:
    """Return 12 hexadecimal digits over the ids, predictions and references of rows."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps([row["id"], row["prediction"], row["reference"]]).encode())
    return total.hexdigest()[:12]


def changed_rows(before: Score, examples: ExampleScores | None, rows: Sequence[dict[str, Any]]) -> str:
    """Say why rows of a predictions file are not those that a score was computed from; "" where nothing tells so.

    Args:
        before: the score in the record.
        examples: the scores of its examples, if they were written.
        rows: what the predictions file has now.
    """
    if before.status != "done":
        return ""
    if len(rows) != before.n:
        return f"there are predictions for {len(rows)} examples, it was computed from {before.n}"
    if before.rows not in (None, rows_digest(rows)):
        return "the predictions are not those that it was computed from"
    if examples is not None and examples.ids != [row["id"] for row in rows]:
        return "the predictions are of other examples than those that it was computed from"
    return ""


def replace_score(before: Score, after: Score, when: str, version: dict[str, Any], reason: str) -> Score:
    """Return the score ``after`` with ``before`` at the end of its history.

    Where both have the same content, apart from an edition that was not recorded before and metrics that are new, the
    history stays as it is. Metrics that were computed on request stay with the predictions that they are of.

    Args:
        before: the score that stands in a record.
        after: the score that takes its place.
        when: time of the replacement.
        version: the code that computed ``after`` (:func:`bench.environment.code_version`).
        reason: what was done again.
    """
    metrics = {**(before.metrics if before.rows == after.rows else {}), **after.metrics}
    same = before.model_copy(update={"edition": after.edition, "rows": after.rows, "metrics": metrics, "history": []})
    unchanged = all(metrics.get(name) == value or math.isnan(value) for name, value in before.metrics.items())
    if before.edition in (None, after.edition) and unchanged and same == after.model_copy(update={"metrics": metrics}):
        return after.model_copy(update={"metrics": metrics, "history": before.history})
    content = before.model_dump(exclude={"history"})
    earlier = EarlierScore(**content, replaced_at=when, replaced_by=version, reason=reason)
    return after.model_copy(update={"history": [*before.history, earlier]})
