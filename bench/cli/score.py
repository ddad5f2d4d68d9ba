"""``score``: score written predictions again, without the model."""

import argparse
import sys
from typing import Any

from bench.cli.options import add_folders, add_format, show
from bench.errors import UsageError, unknown

EXAMPLES = {"score": "example: python -m bench score --all --task caption"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("run", nargs="?", help="id of a run")
    parser.add_argument("--all", action="store_true", help="every finished run")
    parser.add_argument("--task", help="only this task")
    add_folders(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Score, write the scores of single examples, and put the scores that changed into the records.

    A score in a record is only replaced by a good one over the same predictions, as far as the record tells them; it
    stays in the history of the new one.
    """
    from bench import tasks
    from bench.records import load_records

    records, faults = load_records(arguments.results)
    for fault in faults:
        print(f"warning: {fault}", file=sys.stderr)
    finished = {record.id: record for record in records if record.status == "done"}
    if not arguments.all and arguments.run is None:
        raise UsageError("say which run to score, or --all")
    if not arguments.all and arguments.run not in finished:
        raise unknown("finished run", arguments.run, finished)
    if arguments.task:
        tasks.get(arguments.task)
    chosen = list(finished.values()) if arguments.all else [finished[arguments.run]]
    rows = [row for record in chosen for row in _score_run(record, arguments)]
    if not rows:
        raise UsageError(f"nothing to score in {arguments.results}: no finished run with such a task")
    show(rows, arguments.format)
    refused = [row for row in rows if row["status"] != "done"]
    for row in refused:
        print(f"{row['run']}: {row['task']} keeps its score: {row['note']}", file=sys.stderr)
    return 1 if refused else 0


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
            predictions = folder.read_predictions(name)
            if note := changed_rows(before, folder.read_scores(name), predictions):
                status, note = "refused", f"{folder.predictions(name)}: {note}"
            else:
                after, examples = score_rows(tasks.get(name), predictions, before.split)
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
