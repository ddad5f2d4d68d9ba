"""``score``: compute scores again from kept predictions."""

import argparse
import sys

from bench.cli.options import add_folders, add_format, show
from bench.errors import UsageError, unknown

EXAMPLES = {"score": "example: python -m bench score --all --task caption"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    parser.add_argument("run", nargs="?", help="id of a run")
    parser.add_argument("--all", action="store_true", help="every finished run")
    parser.add_argument("--task", help="only this task")
    add_folders(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Score, and write the scores that changed into the records."""
    from bench import tasks
    from bench.files import CorruptFile
    from bench.records import load_records
    from bench.run import score_rows
    from bench.run_dir import RunDir

    records, faults = load_records(arguments.results)
    for fault in faults:
        print(f"warning: {fault}", file=sys.stderr)
    known = {record.id: record for record in records if record.status == "done"}
    if not arguments.all and arguments.run is None:
        raise UsageError("say which run to score, or --all")
    if not arguments.all and arguments.run not in known:
        raise unknown("finished run", arguments.run, known)
    if arguments.task:
        tasks.get(arguments.task)
    rows = []
    for record in known.values() if arguments.all else [known[arguments.run]]:
        folder = RunDir(arguments.results, record.id)
        scores = dict(record.scores)
        for name, before in record.scores.items():
            if arguments.task not in (None, name):
                continue
            try:
                scores[name] = after = score_rows(tasks.get(name), folder.read_predictions(name), before.split)
                status, note = str(after.status), after.error
            except CorruptFile as lost:  # the score stays as it is: it cannot be computed again
                after, status, note = before, "corrupt", str(lost)
            rows.append(
                {
                    "run": record.id,
                    "task": name,
                    "metric": after.metric,
                    "before": before.metrics.get(before.metric),
                    "score": after.metrics.get(after.metric),
                    "status": status,
                    "note": note,
                }
            )
        if scores != record.scores:
            folder.finish(record.model_copy(update={"scores": scores}))
    if not rows:
        raise UsageError(f"nothing to score in {arguments.results}: no finished run with such a task")
    show(rows, arguments.format)
    return 0 if all(row["status"] == "done" for row in rows) else 1
