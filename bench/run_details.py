"""Everything that the directory of a run tells about it, about one of its tasks, and about one example, as plain data.

What is read here was written by the run; no metric is computed and no model is built.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import tasks
from bench.config import Run, resolve
from bench.data import held_out
from bench.errors import UsageError, near_matches, unknown
from bench.example_scores import read_example_scores
from bench.files import UnreadableFile
from bench.record_schema import Record, Score
from bench.run_dir import RunDir
from bench.sweep import attempts
from bench.sweep.run_state import directory_state
from bench.tasks import Example, Task
from methods.core.errors import MethodError

EXTREMES = 3  # best and worst examples that are listed


def describe_run(folder: RunDir, results: Path) -> dict[str, Any]:
    """Return identity, state, configuration, failure, scores, costs, environment and files of a run.

    A record that cannot be read is part of the state ("corrupt"), not an error.
    """
    run = folder.read_run()
    current = directory_state(folder, run)  # by its folder: one of an earlier version has another id now
    try:
        record = folder.read()
    except UnreadableFile:
        record = None
    changed = changed_settings(run)
    rest = {name: value for name, value in _settings(run).items() if name not in changed}
    return {
        "run": folder.id,
        "method": run.method,
        "title": run.title,
        "backbone": run.backbone,
        "suite": run.suite,
        "tasks": [task.name for task in run.task_list],
        "seed": run.seed,
        "data": run.data,
        "state": current.name,
        "note": current.note,
        "finished": record.finished if record else None,
        "changed": changed,
        "recipe": rest,
        "failure": _failure(folder, record, results),
        "scores": _scores(record.scores) if record else [],
        "evaluations": [evaluation.model_dump(mode="json") for evaluation in record.evaluations] if record else [],
        "selected": record.selected if record else None,
        "parameters": record.parameters if record else {},
        "diagnostics": record.diagnostics if record else {},
        "time": record.time if record else {},
        "memory": record.memory if record else {},
        "data_root": record.data if record else {},
        "imported": record.imported if record else None,
        "environment": record.environment if record else {},
        "fingerprints": record.fingerprints if record else {},
        "notes": record.notes if record else [],
        "segments": record.segments if record else [],
        "attempts": [attempt.model_dump(mode="json") for attempt in attempts.read(folder)],
        "folder": str(folder.path),
        "files": _files(folder),
    }


def changed_settings(run: Run) -> dict[str, Any]:
    """Return the options of the method and the fields of the recipe that differ from what the names alone give."""
    changed: dict[str, Any] = dict(run.overrides)
    try:
        plain = resolve(run.backbone, run.method, run.suite, recipe=run.recipe.name, data=run.data)
    except (UsageError, MethodError):  # a recipe file, a backbone or a plug-in that is not here
        return changed
    defaults = _settings(plain)
    return changed | {name: value for name, value in _settings(run).items() if value != defaults[name]}


def _settings(run: Run) -> dict[str, Any]:
    return run.recipe.model_dump(mode="json", by_alias=True)


def _failure(folder: RunDir, record: Record | None, results: Path) -> dict[str, Any] | None:
    if record is None or record.status != "failed":
        return None
    error = record.error.model_dump(mode="json") if record.error else {}
    return {
        "cause": record.cause,
        **error,
        "log": str(folder.log) if folder.log.exists() else attempts.last_log(folder),
        "retry": f"python -m bench retry SWEEP --run {folder.id} --results {results}, then run that sweep again",
    }


def _scores(scores: Mapping[str, Score]) -> list[dict[str, Any]]:
    return [
        {"task": name, "score": score.value, **score.model_dump(mode="json", exclude={"metrics"})}
        | {"metrics": score.metrics}
        for name, score in scores.items()
    ]


def _files(folder: RunDir) -> list[str]:
    """Return the files of a run relative to its directory, claims and put-aside attempts left out."""
    paths = (path for path in folder.path.rglob("*") if path.is_file() and folder.claim not in path.parents)
    names = sorted(str(path.relative_to(folder.path)) for path in paths)
    return [name for name in names if not name.startswith(("attempt-", "."))]


def describe_task(folder: RunDir, name: str) -> dict[str, Any]:
    """Return the score of a task with its best and worst examples.

    Raises:
        UsageError: the run has no such task, or nothing of it was written.
    """
    task, record = _task(folder.read_run(), name), _record(folder)
    rows = _predictions(folder, task)
    score = record.scores.get(name)
    examples = read_example_scores(folder, record, name) if score else None
    by_id = {row["id"]: row for row in rows}
    ranked = sorted(zip(examples.scores, examples.ids, strict=True)) if examples else []
    listed = [{"id": key, "score": value, **_texts(by_id.get(key))} for value, key in ranked]
    return {
        "run": folder.id,
        "task": name,
        "label": task.label,
        "examples": len(rows),
        **(_scores({name: score})[0] if score else {}),
        "best": listed[: -EXTREMES - 1 : -1],
        "worst": listed[:EXTREMES],
        "note": "" if examples else f"no scores of single examples; `python -m bench score {folder.id}` writes them",
        "predictions": str(folder.predictions(name)),
    }


def describe_example(
    folder: RunDir, name: str, example_id: str, roots: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """Return one example of a task: its source, files, prediction, reference, score and answers.

    Args:
        folder: the run directory.
        name: the task.
        example_id: the id of the example in the official files.
        roots: folders of data roots by name, where they are not the ones that the record names.

    Raises:
        UsageError: the run has no such task or example.
    """
    run, record = folder.read_run(), _record(folder)
    task = _task(run, name)
    rows = {str(row["id"]): row for row in _predictions(folder, task)}
    if example_id not in rows:
        raise UsageError(f"unknown example of {name} {example_id!r}{near_matches(example_id, rows)}")
    score = record.scores.get(name)
    examples = read_example_scores(folder, record, name) if score else None
    values = dict(zip(examples.ids, examples.scores, strict=True)) if examples else {}
    root = (roots or {}).get(run.data) or Path(record.data.get("root") or "no-root-in-the-record")
    example, note = _source(run, record, task, example_id, root)
    return {
        "run": folder.id,
        "task": name,
        "split": score.split if score else task.report_split,
        "id": example_id,
        "source": task.source(example, run.recipe.task_prefix) if example else None,
        "root": str(root) if example else None,
        "visual": list(example.visual) if example else None,
        "prediction": rows[example_id]["prediction"],
        "reference": rows[example_id]["reference"],
        "metric": task.metric,
        "score": values.get(example_id),
        "answers": [list(answer) for answer in example.answers] if example else None,
        "note": note,
    }


def _source(run: Run, record: Record, task: Task, example_id: str, root: Path) -> tuple[Example | None, str]:
    """Read an example from a data root; the second value says what is wrong with the root, "" for nothing."""
    from bench.data import example_tables  # imports numpy
    from bench.fingerprints import annotation_digests, overall

    mend = f"give the folder with --data {run.data}=PATH"
    if not root.is_dir():
        return None, f"the data root {root} is not there; {mend}"
    note = ""
    if overall(annotation_digests(root, run.suite)) != record.data.get("fingerprint"):
        note = f"the annotations in {root} are not those that the run was evaluated on; {mend}"
    try:
        tuning = run.recipe.evaluate == "tuning"
        examples = example_tables.read(task, root, held_out.TUNING if tuning else task.report_split, tuning=tuning)
    except UsageError as fault:
        return None, str(fault)
    example = next((example for example in examples if example.id == example_id), None)
    return example, note or ("" if example else f"{root} has no example {example_id} of {task.name}")


def _task(run: Run, name: str) -> Task:
    names = [task.name for task in run.task_list]
    if name not in names:
        raise unknown("task of this run", name, names)
    return tasks.get(name)


def _record(folder: RunDir) -> Record:
    record = folder.read()
    if record is None:
        raise UsageError(f"{folder.id}: has no record yet; `python -m bench show {folder.id}` tells its state")
    return record


def _predictions(folder: RunDir, task: Task) -> list[dict[str, Any]]:
    if not folder.predictions(task.name).exists():
        raise UsageError(f"{folder.id}: no predictions of {task.name} were written; `python -m bench show` tells why")
    return folder.read_predictions(task.name)


def _texts(row: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"prediction": row["prediction"], "reference": row["reference"]} if row else {}
