"""``import-official`` and ``evaluate``: run directories of released checkpoints, and the scores of kept weights."""

import argparse
import json
import shlex
import sys

from bench.cli.options import add_execution, add_settings, data_name, execution, path, word, words

EXAMPLES = {
    "import-official": "example: python -m bench import-official BEST.pth --method vl-pet-large "
    "--backbone facebook/bart-base --out vl-pet-large",
    "evaluate": "example: python -m bench evaluate vl-pet-large --data official=/data/datasets\n"
    "         python -m bench evaluate results/runs/RUN --split validation",
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    if verb == "evaluate":
        parser.add_argument("run", type=path, metavar="RUN_DIR", help="directory of a run with kept weights")
        parser.add_argument("--again", action="store_true", help="although there is a record; it keeps its scores")
        parser.add_argument(
            "--split", type=word, metavar="S", help="add the scores of another split: train, validation, test"
        )
        parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
        parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed (table)")
        add_execution(parser)
        return
    parser.add_argument("checkpoint", type=path, metavar="CKPT", help="a released checkpoint file (.pth)")
    parser.add_argument("--method", required=True, help="method, by our name or the official one")
    parser.add_argument("--backbone", required=True, help="backbone that was tuned: a name, or a folder with tokeniser")
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="the run directory to write")
    parser.add_argument("--suite", default="image-text", help="suite that it was trained on (image-text)")
    parser.add_argument("--tasks", type=words, default=(), metavar="A,B", help="tasks that it was trained on (all)")
    parser.add_argument(
        "--recipe", type=word, help="recipe to decode by: paper, fair, mini, or a TOML file (the backbone's)"
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME[=PATH]", help="data root to evaluate on (the recipe's)"
    )
    add_settings(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    return _evaluate(arguments) if verb == "evaluate" else _import(arguments)


def _import(arguments: argparse.Namespace) -> int:
    from bench.config import parse_setting
    from bench.official.importing import import_checkpoint
    from bench.run_dir import RunDir

    run = import_checkpoint(
        arguments.checkpoint,
        arguments.out,
        method=arguments.method,
        backbone=arguments.backbone,
        suite=arguments.suite,
        task_names=arguments.tasks,
        data=data_name(arguments.data),
        recipe=arguments.recipe,
        settings=dict(parse_setting(item) for item in arguments.settings),
    )
    if prefix := json.loads(RunDir.at(arguments.out).imported.read_bytes()).get("prefix"):
        print(f"the names in {arguments.checkpoint} begin with {prefix!r}, as those of distributed training do")
    read = ", ".join(f"{key}={value}" for key, value in sorted(run.overrides.items()))
    print(f"{run.method} with {read or 'its defaults'}")
    data_flag = "" if run.data == "mini" else f" --data {run.data}=PATH"
    command = f"python -m bench evaluate {shlex.quote(str(arguments.out))}{data_flag}"
    print(f"wrote {arguments.out}; evaluate it with: {command}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from bench.cli.options import show
    from bench.cli.progress import Progress
    from bench.kept_weights import evaluate
    from bench.run_dir import RunDir

    with Progress(1, stream=sys.stderr, quiet=arguments.quiet) as progress:
        record, evaluation = evaluate(
            arguments.run, execution(arguments), progress, again=arguments.again, split=arguments.split
        )
    outcome = evaluation or record
    if arguments.format == "json":
        print(record.model_dump_json(indent=1, by_alias=True))
    elif outcome.status == "failed":
        print(f"failed ({outcome.cause}): {outcome.error.message if outcome.error else ''}")
    else:
        show(
            [
                {"task": name, "split": score.split, "metric": score.metric, "score": score.value, "n": score.n}
                for name, score in outcome.scores.items()
            ],
            "table",
        )
        for name, score in outcome.scores.items():
            if score.error:
                print(f"{name}: {score.error}", file=sys.stderr)
        print(f"record: {RunDir.at(arguments.run).record}")
    complete = outcome.status == "done" and all(score.status == "done" for score in outcome.scores.values())
    return 0 if complete else 1
