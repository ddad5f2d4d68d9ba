"""The same examples as several methods answered them, for readers who want to see what a difference of scores means."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data import example_tables, held_out
from bench.data.picture_index import PictureIndex, thumbnails
from bench.errors import UsageError
from bench.example_scores import read_example_scores
from bench.files import UnreadableFile
from bench.mini.descriptions import descriptions
from bench.record_schema import Record
from bench.run_dir import RunDir
from bench.tasks import Example, Task

METHODS, EXAMPLES = 12, 40  # of a task, that are shown
LONGEST = 700  # letters of a text


def side_by_side(
    results: Path, plan: Sequence[Mapping[str, Any]], roots: Mapping[str, Path], images: Path | None = None
) -> list[dict[str, Any]]:
    """Return a sample of examples for every backbone, suite and task that two planned methods have predicted.

    Args:
        results: the results folder.
        plan: the planned cells with ``run_id, label, backbone, suite, tasks``; the first seed of a label stands for it.
        roots: folders of data roots by name, where they are not those that the records name.
        images: a folder with the pictures; by default they are looked for in the data root.

    Returns:
        Per task ``title``, ``task``, ``labels`` and ``examples``, each with ``id``, ``source`` (None where the data
        are not here), ``visual``, ``reference`` and, in the order of the labels, ``predictions`` and ``scores``. Half
        of the sample are examples on which the methods differ, if there are as many. ``pictures`` are small pictures as
        data URIs where there are any, and ``shows`` describes what is to be seen in a miniature world
        (:mod:`bench.mini.descriptions`).
    """
    groups: dict[tuple[str, str], dict[str, Record]] = {}
    for cell in plan:
        runs = groups.setdefault((cell["backbone"], cell["suite"]), {})
        if cell["label"] not in runs and len(runs) < METHODS and (record := _record(results, cell["run_id"])):
            runs[cell["label"]] = record
    return [
        shown
        for (backbone, suite), runs in groups.items()
        for task in _tasks(runs)
        if (shown := _of_task(results, f"{backbone}, {suite}: {task.label}", task, runs, roots, images))
    ]


def _record(results: Path, run_id: str) -> Record | None:
    try:
        record = RunDir(results, run_id).read()
    except UnreadableFile:
        return None
    return record if record is not None and record.status == "done" else None


def _tasks(runs: Mapping[str, Record]) -> list[Task]:
    every = {task.name: task for record in runs.values() for task in record.run.task_list}
    return list(every.values())


def _of_task(
    results: Path,
    title: str,
    task: Task,
    runs: Mapping[str, Record],
    roots: Mapping[str, Path],
    images: Path | None,
) -> dict[str, Any] | None:
    rows, scores = {}, {}
    for label, record in runs.items():
        folder = RunDir(results, record.id)
        if task.name not in record.scores or not folder.predictions(task.name).is_file():
            continue
        try:
            rows[label] = {str(row["id"]): row for row in folder.read_predictions(task.name)}
        except (UnreadableFile, KeyError, TypeError):
            continue
        of_examples = read_example_scores(folder, record, task.name)
        scores[label] = dict(zip(of_examples.ids, of_examples.scores, strict=True)) if of_examples else {}
    labels = list(rows)
    if len(labels) < 2:
        return None
    common = [key for key in rows[labels[0]] if all(key in rows[label] for label in labels)]
    differing = [key for key in common if len({scores[label].get(key) for label in labels}) > 1]
    draw = random.Random(0)
    chosen = draw.sample(differing, min(EXAMPLES // 2, len(differing)))
    rest = sorted(set(common) - set(chosen))
    chosen += draw.sample(rest, min(EXAMPLES - len(chosen), len(rest)))
    root = _root(runs[labels[0]], roots)
    sources, shown = _sources(task, runs[labels[0]], root), descriptions(root)
    index = PictureIndex(root, images)
    examples = [
        {
            "id": key,
            "source": _source(task, runs[labels[0]], sources.get(key)),
            "visual": visual,
            "pictures": thumbnails([picture for file in visual for picture in index.find(file)]),
            "shows": [shown[file] for file in visual if file in shown],
            "reference": _reference(rows[labels[0]][key].get("reference")),
            "predictions": [_text(rows[label][key].get("prediction")) for label in labels],
            "scores": [scores[label].get(key) for label in labels],
        }
        for key in chosen
        for visual in [list(sources[key].visual) if key in sources else []]
    ]
    return {"title": title, "task": task.name, "labels": labels, "examples": examples} if examples else None


def _root(record: Record, roots: Mapping[str, Path]) -> Path:
    given, recorded = roots.get(record.run.data), record.data.get("root")
    return given or Path(recorded if isinstance(recorded, str) else "no-root-in-the-record")


def _sources(task: Task, record: Record, root: Path) -> dict[str, Example]:
    """Return the examples of the split that was scored, by id; none where the data are not here."""
    tuning = record.run.recipe.evaluate == "tuning"
    try:
        split = held_out.TUNING if tuning else task.report_split
        return {example.id: example for example in example_tables.read(task, root, split, tuning=tuning)}
    except (UsageError, OSError, ValueError):
        return {}


def _source(task: Task, record: Record, example: Example | None) -> str | None:
    return None if example is None else _text(task.source(example, record.run.recipe.task_prefix))


def _reference(value: Any) -> str:
    """Write a reference for readers: answers with their scores, or captions one after the other."""
    if isinstance(value, Mapping) and isinstance(answers := value.get("label"), Mapping):
        return _text(", ".join(f"{answer} ({score})" for answer, score in answers.items()))
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return _text("; ".join(value))
    return _text(value)


def _text(value: Any) -> str:
    """Return a text, or plain data as JSON, no longer than a page needs."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
