"""``predict``: predict a split with the kept weights of a run, and write the files that official tools take."""

import argparse
import sys
from pathlib import Path

from bench.cli.options import add_execution, add_folders, add_format, execution, path, show, word, words

EXAMPLES = {
    "predict": "example: python -m bench predict lora-mini-bart-video-text-s1 --split test\n"
    "         python -m bench predict RUN --split test-dev --task vqa --data official=/data/datasets --export upload"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("run", type=word, metavar="RUN", help="a run's id, or the beginning of it, or its directory")
    parser.add_argument("--split", type=word, required=True, metavar="S", help="test, validation, test-dev, ...")
    parser.add_argument("--task", type=words, default=(), metavar="A,B", help="only these tasks (all with the split)")
    parser.add_argument(
        "--export", type=path, metavar="DIR", help="folder of the files for official tools (predicted/S/ of the run)"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    add_execution(parser)
    add_folders(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Predict, write, and print a row for every file; the record and its scores are not touched."""
    from bench.cli.progress import Progress
    from bench.kept_weights import predict_split
    from bench.sweep.sweep_status import find_run_dir

    given = Path(arguments.run)
    folder = given if (given / "run.json").is_file() else find_run_dir(arguments.results, arguments.run).path
    with Progress(1, stream=sys.stderr, quiet=arguments.quiet) as progress:
        written = predict_split(
            folder, execution(arguments), arguments.split, arguments.task, arguments.export, progress
        )
    show(
        [
            {"task": w.task, "split": w.split, "examples": w.examples, "form": w.form, "file": str(w.file)}
            for w in written
        ],
        arguments.format,
    )
    return 0
