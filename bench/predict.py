"""Predictions of a further split, without scores, in the files that evaluation servers and official tools take.

They are written below ``predicted/<split>/`` in the run directory; the record and its scores stay as they are.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import backbones, stages, suites
from bench.config import Execution, Run
from bench.data.batches import TokenizedSplit
from bench.data.feature_inspection import FeatureInspector
from bench.data.roots import locate
from bench.errors import UsageError, unknown
from bench.events import RunEvent
from bench.files import explain_write_errors, read_bytes
from bench.run_context import RunContext
from bench.run_data import read_split
from bench.run_dir import RunDir
from bench.stage_outputs import DataRoot, Machine
from bench.tasks import Example, Task
from bench.tasks.prediction_files import OWN, distinct

LISTED = 3  # missing feature files that an error names


@dataclass(frozen=True)
class WrittenPredictions:
    """One file that was written: of which task, with how many examples, and in which form."""

    task: str
    split: str
    examples: int
    form: str
    file: Path


def tasks_with(split: str, run: Run, names: Sequence[str] = ()) -> list[Task]:
    """Return the tasks of a run that have a split, those of ``names`` if there are any.

    Raises:
        UsageError: a name is no task of the run or has no such split, or no task has; or the run or the split is one
            that is not predicted.
    """
    if run.recipe.evaluate == "tuning":
        raise UsageError(f"{run.id}: a run that tunes is evaluated on its tuning split only")
    if split == "train":
        raise UsageError("--split train: examples to train on are no questions to answer; `evaluate` scores them")
    for name in names:
        if name not in run.tasks:
            raise unknown("task of this run", name, run.tasks)
    splits = {task.name: [*(s for s in task.splits if s != "train"), *task.unanswered] for task in run.task_list}
    chosen = [task for task in run.task_list if task.name in (names or run.tasks)]
    with_split = [task for task in chosen if split in splits[task.name]]
    if not with_split or (names and len(with_split) < len(chosen)):
        raise unknown("split", split, dict.fromkeys(s for task in chosen for s in splits[task.name]))
    return with_split


def with_questions(chosen: Sequence[Task], split: str, root: Path) -> list[Task]:
    """Return those of some tasks whose questions are in a data root, all of them where that is none.

    Files of splits without public answers are fetched by whoever needs them.
    """
    return [t for t in chosen if split in t.splits or (root / t.unanswered[split]).exists()] or list(chosen)


def read_for_prediction(run: Run, task: Task, split: str, root: Path) -> TokenizedSplit:
    """Return a tokenised split; UsageError where an annotation or feature file is missing or faulty."""
    tokenized = read_split(run, task, split, root)
    require_features(root, task, split, tokenized.examples)
    return tokenized


def require_features(root: Path, task: Task, split: str, examples: Sequence[Example]) -> None:
    """Raise UsageError where a feature file of the examples is missing."""
    files = dict.fromkeys(file for example in examples for file in example.visual)
    if missing := FeatureInspector(root, suites.get(task.suite).features.kind).missing(files):
        some = ", ".join(missing[:LISTED])
        raise UsageError(f"{root}: {task.name} {split} lacks {len(missing):,} of {len(files):,} feature files ({some})")


def require_split(runs: Sequence[Run], split: str) -> None:
    """Raise UsageError where no task of any run has the split."""
    faults = []
    for run in runs:
        try:
            tasks_with(split, run)
        except UsageError as fault:  # a suite without this split, beside one that has it
            faults.append(fault)
    if faults and len(faults) == len(runs):
        raise faults[0]


def check_split(runs: Sequence[Run], execution: Execution, split: str) -> None:
    """Check, before anything expensive, what those runs will read that can predict a split.

    Raises:
        UsageError: an annotation or feature file of the split is missing or faulty.
    """
    checked = set()
    for run in runs:
        root = locate(run.data, run.suite, execution.data)
        try:
            chosen = with_questions(tasks_with(split, run), split, root)
        except UsageError:
            continue
        for task in chosen:
            if (root, task.name) not in checked:
                require_features(root, task, split, task.read(root, split))
            checked.add((root, task.name))


def write_split(
    context: RunContext,
    model: backbones.VLModel,
    data: DataRoot,
    machine: Machine,
    split: str,
    names: Sequence[str] = (),
    export: Path | None = None,
) -> list[WrittenPredictions]:
    """Predict a split and write, for every task that has it, all predictions and the file that official tools take.

    A file that is there with other content stays; the new one gets a number.

    Args:
        context, model, data, machine: outputs of the stages of a run.
        split: the logical split, with or without public answers.
        names: the tasks, by default all that have the split and, without public answers, its questions.
        export: the folder of the files for official tools, by default that of the predictions.

    Raises:
        UsageError: what :func:`tasks_with` and :func:`read_for_prediction` raise, before anything is predicted.
    """
    chosen = tasks_with(split, context.run, names)
    if not names:
        present = with_questions(chosen, split, data.root)
        for task in chosen:
            if task not in present:
                file = data.root / task.unanswered[split]
                context.note(f"{task.name} is left out of the predictions of {split}: there is no {file}")
        chosen = present
    tokenized = {task: read_for_prediction(context.run, task, split, data.root) for task in chosen}
    if limit := context.run.recipe.limit:
        context.note(f"the run has limit = {limit}: its files of {split} have no more examples of a task than that")
    context.enter("predict")
    folder, written = context.folder.predicted(split), []
    for task, examples in tokenized.items():
        predictions = stages.predict_task(context, model, task, examples, machine)
        if not context.group.leads:
            continue
        contents = [(OWN, folder / f"{task.name}.jsonl.gz")]
        if form := task.file_format:
            contents.append((form, (export or folder) / f"{task.name}_{split}_predictions{form.suffix}"))
        for form, file in contents:
            content = distinct(form, examples.examples, predictions).encode("utf-8", errors="backslashreplace")
            path = _write(context.folder, file, gzip.compress(content, mtime=0) if form is OWN else content)
            written.append(WrittenPredictions(task.name, split, len(predictions), form.title, path))
    return written


def write_split_after_training(
    context: RunContext, model: backbones.VLModel, data: DataRoot, machine: Machine, split: str
) -> None:
    """Predict a split with the model of a run that is about to be recorded; a failure becomes a note in its record."""
    try:
        with context.group.together():
            written = write_split(context, model, data, machine, split)
    except Exception as error:  # the scores that the run has are not lost for it
        context.note(f"split {split} was not predicted: {type(error).__name__}: {error}")
        return
    for item in written:
        context.listener(RunEvent("note", context.run.id, f"{item.task} {split}: {item.file}"))


def _write(folder: RunDir, path: Path, content: bytes) -> Path:
    """Write a file, under a name with a number where there is one with other content; return its path."""
    with explain_write_errors(path, "--export"):
        path.parent.mkdir(parents=True, exist_ok=True)
        stem, dot, ending = path.name.partition(".")
        number, target = 1, path
        while not folder.create(target, content) and read_bytes(target) != content:
            number += 1
            target = path.with_name(f"{stem}-{number}{dot}{ending}")
        return target
