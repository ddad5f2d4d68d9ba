"""Scores of single examples, as runs wrote them: they let two runs be compared example by example."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.files import UnreadableFile
from bench.record_schema import Record
from bench.run_dir import ExampleScores, RunDir

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 0.01  # some metrics round the score that they report to two decimals


def example_scores(results: Path, run_ids: Iterable[str]) -> dict[str, dict[str, "pd.Series"]]:
    """Return, by run and task, the reported metric of every example, indexed by the ids of the examples.

    They are read from the directories of the runs; nothing is computed. A task of a run is left out where it has no
    score, where the file is not there or cannot be read, where it is of another split, and where the mean over the
    examples is not the reported score: then the file is of other predictions.
    """
    import pandas as pd

    collected: dict[str, dict[str, pd.Series]] = {}
    for folder, record in _finished(results, run_ids):
        for task in record.scores:
            if (examples := read_example_scores(folder, record, task)) is not None:
                collected.setdefault(folder.id, {})[task] = pd.Series(examples.scores, index=examples.ids)
    return collected


def missing_hint(results: Path, run_ids: Iterable[str]) -> str:
    """Say how many of these runs have a score without those of its examples, as older versions wrote them, and what
    to do about it; "" where none has."""
    number = sum(
        any(score.status == "done" and not folder.scores(task).exists() for task, score in record.scores.items())
        for folder, record in _finished(results, run_ids)
    )
    if not number:
        return ""
    runs = "1 run has" if number == 1 else f"{number} runs have"
    return f"{runs} no scores of single examples; `python -m bench score --all --results {results}` writes them"


def read_example_scores(folder: RunDir, record: Record, task: str) -> ExampleScores | None:
    """Return the scores of the examples behind a task's score in a record, None where they are not known."""
    score = record.scores[task]
    try:
        examples = folder.read_scores(task)
    except UnreadableFile:
        return None
    if examples is None or not examples.scores or score.status != "done" or score.value is None:
        return None
    mean = sum(examples.scores) / len(examples.scores)
    if (examples.metric, examples.split) != (score.metric, score.split) or abs(mean - score.value) > ROUNDING:
        return None
    return examples


def _finished(results: Path, run_ids: Iterable[str]) -> Iterator[tuple[RunDir, Record]]:
    """Yield the directory and record of every run that has a readable one."""
    for run_id in dict.fromkeys(run_ids):
        folder = RunDir(results, run_id)
        with suppress(UnreadableFile):
            if (record := folder.read()) is not None:
                yield folder, record
