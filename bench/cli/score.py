"""``score``: compute scores again from kept predictions."""

import argparse

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
    from bench.records import Folder, load_records
    from bench.run import score_rows

    records, _ = load_records(arguments.results)
    known = {record.id: record for record in records if record.status == "done"}
    if not arguments.all and arguments.run is None:
        raise UsageError("say which run to score, or --all")
    if not arguments.all and arguments.run not in known:
        raise unknown("finished run", arguments.run, known)
    if arguments.task:
        tasks.get(arguments.task)
    rows = []
    for record in known.values() if arguments.all else [known[arguments.run]]:
        folder = Folder(arguments.results, record.id)
        scores = dict(record.scores)
        for name in scores:
            if arguments.task in (None, name):
                before, scores[name] = scores[name], score_rows(tasks.get(name), folder.read_predictions(name))
                after = scores[name]
                rows.append(
                    {
                        "run": record.id,
                        "task": name,
                        "metric": after.metric,
                        "before": before.metrics.get(before.metric),
                        "score": after.metrics.get(after.metric),
                        "status": after.status,
                    }
                )
        if scores != record.scores:
            folder.finish(record.model_copy(update={"scores": scores}))
    show(rows, arguments.format)
    return 1 if any(row["status"] == "failed" for row in rows) else 0
