"""Scores of a file with predictions by whomever, in any form that official tools take."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import tasks
from bench.errors import UsageError, unknown
from bench.scoring import ScoredRows, score_rows
from bench.tasks import Example, Task
from bench.tasks.prediction_files import OWN, read_entries
from bench.tasks.task import Entry, FileFormat

LISTED = 5  # ids that an error names


def score_file(
    task: Task, file: Path, root: Path, split: str | None = None, slow_metrics: Sequence[str] = ()
) -> ScoredRows:
    """Score the predictions of a file against a data root.

    Args:
        task: the task that the predictions are of.
        file: the file, in the form of the task's official tools or that of run directories.
        root: the data root, in the official layout.
        split: the logical split, by default the one that the task reports.
        slow_metrics: names of the task's slow metrics that are computed as well.

    Raises:
        UsageError: the split has no public answers; the file is of another task or split, or has not exactly one
            prediction for every example; the metric failed. The message counts the ids and names some of them.
    """
    split = split or task.report_split
    if split in task.unanswered:
        raise UsageError(f"{task.name} {split}: its answers are not public; send the file to the evaluation server")
    if split not in task.splits:
        raise unknown(f"split of {task.name}", split, [*task.splits, *task.unanswered])
    form, entries = read_entries(file)
    if form not in (OWN, task.file_format):
        raise UsageError(f"{file}: is {form.title}, {_whose(form)}; {_wanted(task)}")
    examples = task.read(root, split)
    predictions = match(task, split, examples, form, entries, file, root)
    rows = [
        {"id": example.id, "prediction": prediction, "reference": example.reference}
        for example, prediction in zip(examples, predictions, strict=True)
    ]
    scored = score_rows(task, rows, split, slow_metrics)
    if scored.examples is None:
        raise UsageError(f"{file}: cannot be scored on {task.name} {split}: {scored.score.error}")
    return scored


def match(
    task: Task,
    split: str,
    examples: Sequence[Example],
    form: FileFormat,
    entries: Sequence[Entry],
    file: Path,
    root: Path,
) -> list[str]:
    """Return the prediction of every example; UsageError where the file lacks one, repeats one, or has others."""
    keys = [form.key(example) for example in examples]
    numbers = Counter(entry.key for entry in entries)
    expected = dict.fromkeys(keys)
    faults = [
        _fault(f"lacks {{}} of the {len(expected):,} ids", [key for key in expected if key not in numbers]),
        _fault("has {} ids that are none of them", [key for key in numbers if key not in expected]),
        _fault("has {} ids more than once", [key for key, number in numbers.items() if number > 1]),
    ]
    if any(faults):
        other = _other_split(task, split, form, numbers, root) if not numbers.keys() & expected.keys() else ""
        raise UsageError(f"{file}: for {task.name} {split} it {', '.join(filter(None, faults))}{other}")
    by_key = {entry.key: entry.prediction for entry in entries}
    return [by_key[key] for key in keys]


def _fault(text: str, keys: Sequence[str]) -> str:
    listed = ", ".join(f"{key:.40}" for key in keys[:LISTED])
    more = ", ..." if len(keys) > LISTED else ""
    return f"{text.format(f'{len(keys):,}')} ({listed}{more})" if keys else ""


def _whose(form: FileFormat) -> str:
    names = [name for name in tasks.names() if tasks.get(name).file_format is form]
    return f"the form of {' and '.join(names)}" if names else "the form of no task"


def _wanted(task: Task) -> str:
    forms = [form.title for form in (task.file_format, OWN) if form]
    return f"{task.name} takes {' or '.join(forms)}"


def _other_split(task: Task, split: str, form: FileFormat, keys: Iterable[str], root: Path) -> str:
    """Say of which split, of this or another task of the data root, all keys are; "" for none that can be read."""
    wanted = set(keys)
    for other in map(tasks.get, tasks.names()):
        if form not in (OWN, other.file_format):
            continue
        for name in (*other.splits, *other.unanswered):
            if (other.name, name) == (task.name, split) or name == "train":
                continue
            try:
                present = {form.key(example) for example in other.read(root, name)}
            except UsageError:
                continue
            if wanted <= present:
                return f"; they are the ids of {other.name} {name}"
    return ""
