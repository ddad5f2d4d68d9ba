"""``score``: score written predictions again, or a file of predictions by whomever, without the model."""

import argparse
import json
import sys
from typing import Any

from bench.cli.options import add_data, add_folders, add_format, data_name, given_roots, path, show, word, words
from bench.errors import UsageError, unknown

EXAMPLES = {
    "score": "example: python -m bench score --all --task caption\n"
    "         python -m bench score --task vqa --predictions results.json --data official=/data/datasets"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("run", nargs="?", type=word, help="id of a run")
    parser.add_argument("--all", action="store_true", help="every finished run")
    parser.add_argument("--task", type=word, help="only this task")
    parser.add_argument(
        "--metrics", type=words, default=(), metavar="A,B", help="further metrics that take long: METEOR, SPICE"
    )
    files = parser.add_argument_group("a file instead of a run, in the form of our own or of the official tools")
    files.add_argument("--predictions", type=path, metavar="FILE", help="score this file, which is of --task")
    files.add_argument("--split", type=word, metavar="S", help="the split that it is of (the one that tables report)")
    files.add_argument("--out", type=path, metavar="FILE", help="write all metrics and the score of every example")
    add_data(parser)
    add_folders(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Score, write the scores of single examples, and put the scores that changed into the records.

    A score in a record is only replaced by a good one over the same predictions, as far as the record tells them; it
    stays in the history of the new one.
    """
    from bench import tasks
    from bench.records import load_records

    chosen_task = tasks.get(arguments.task) if arguments.task else None
    slow = {name for each in tasks.names() if arguments.task in (None, each) for name in tasks.get(each).slow_metrics}
    for name in arguments.metrics:
        if name not in slow:
            raise unknown(f"metric on request of {arguments.task or 'the tasks'}", name, slow)
    if arguments.predictions:
        return _score_file(chosen_task, arguments)
    for flag in ("split", "out", "data"):
        if getattr(arguments, flag):
            raise UsageError(f"--{flag} belongs to --predictions FILE")
    records, faults = load_records(arguments.results)
    for fault in faults:
        print(f"warning: {fault}", file=sys.stderr)
    finished = {record.id: record for record in records if record.status == "done"}
    if not arguments.all and arguments.run is None:
        raise UsageError("say which run to score, or --all, or a file with --predictions FILE")
    if not arguments.all and arguments.run not in finished:
        raise unknown("finished run", arguments.run, finished)
    chosen = list(finished.values()) if arguments.all else [finished[arguments.run]]
    rows = [row for record in chosen for row in _score_run(record, arguments)]
    if not rows:
        raise UsageError(f"nothing to score in {arguments.results}: no finished run with such a task")
    show(rows, arguments.format)
    refused = [row for row in rows if row["status"] != "done"]
    for row in refused:
        print(f"{row['run']}: {row['task']} keeps its score: {row['note']}", file=sys.stderr)
    return 1 if refused else 0


def _score_file(task: Any, arguments: argparse.Namespace) -> int:
    """Score a file; print its metrics, as JSON with the score of every example."""
    from bench.data.roots import locate
    from bench.files import create_with
    from bench.score_file import score_file

    if arguments.run or arguments.all:
        raise UsageError("--predictions FILE is scored instead of a run; leave the run out")
    if task is None:
        raise UsageError("--predictions FILE: say of which task it is with --task T")
    name = data_name(arguments.data)
    if name is None:
        raise UsageError("--predictions FILE: name the data root with --data NAME=PATH, or --data mini")
    root = locate(name, task.suite, given_roots(arguments))
    score, examples = score_file(task, arguments.predictions, root, arguments.split, arguments.metrics)
    assert examples is not None
    content = {
        "task": task.name,
        "file": str(arguments.predictions),
        **score.model_dump(include={"split", "metric", "edition", "n", "metrics"}),
        "examples": dict(zip(examples.ids, examples.scores, strict=True)),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if arguments.out:
        create_with(arguments.out, text.encode("utf-8", errors="backslashreplace"))
    if arguments.format == "json":
        print(text, end="")
    else:
        about = {"task": task.name, "split": score.split, "n": score.n}
        show([{**about, "metric": metric, "score": value} for metric, value in score.metrics.items()], arguments.format)
    if arguments.out:
        print(f"scores: {arguments.out}", file=sys.stderr)
    return 0


def _score_run(record: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Score the chosen tasks of a run and return a row of the output for each."""
    from bench import tasks
    from bench.environment import code_version
    from bench.record_schema import now
    from bench.run_dir import RunDir
    from bench.scoring import changed_rows, replace_score, score_rows
    from bench.surroundings import SurroundingsFault
    from bench.sweep.claims import claimed

    folder = RunDir(arguments.results, record.id)
    scores = dict(record.scores)
    rows, changed = [], {}
    for name, before in record.scores.items():
        if arguments.task not in (None, name):
            continue
        after, examples = before, None
        try:
            task = tasks.get(name)
            slow = [metric for metric in arguments.metrics if metric in task.slow_metrics]
            predictions = folder.read_predictions(name)
            if note := changed_rows(before, folder.read_scores(name), predictions):
                status, note = "refused", f"{folder.predictions(name)}: {note}"
            else:
                after, examples = score_rows(task, predictions, before.split, slow)
                status, note = str(after.status), after.error or ""
        except SurroundingsFault as fault:
            status, note = "interrupted", str(fault)
        except UsageError as fault:  # a torn file, or a task that is not registered here
            status, note = "corrupt", str(fault)
        if status == "done" and examples is not None:
            changed[name] = examples
            scores[name] = replace_score(before, after, now(), code_version(), "scored again")
        rows.append(
            {
                "run": record.id,
                "task": name,
                "metric": scores[name].metric,
                "before": before.value,
                "score": scores[name].value,
                "status": status,
                "note": note or None,
            }
        )
    try:
        with claimed(folder):
            for name, examples in changed.items():
                folder.write_scores(name, examples)
            if scores != record.scores:
                folder.finish(record.model_copy(update={"scores": scores}))
    except UsageError as fault:  # another person's, or somebody works on it
        return [row | {"status": "refused", "note": str(fault)} for row in rows]
    return rows
