"""``export``: a finished run's weights in formats that others read, or the results as one table."""

import argparse
from pathlib import Path

from bench.cli.options import add_results, path, word
from bench.errors import UsageError

EXAMPLES = {
    "export": "example: python -m bench export lora-mini-bart-image-text-s1 --format peft --out exported\n"
    "         python -m bench export --format parquet --out results.parquet"
}
OF_RUNS, OF_RESULTS = ("peft", "safetensors"), ("parquet", "csv")


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("run", nargs="?", type=word, metavar="RUN", help="a run's id, or the beginning of it")
    parser.add_argument(
        "--format",
        choices=(*OF_RUNS, *OF_RESULTS),
        required=True,
        help="of a run: what PeftModel.from_pretrained reads, with the projector beside it, or all trained tensors; of "
        "all results: one row per run and task, limited and stale ones and try-outs included",
    )
    parser.add_argument("--out", type=path, required=True, metavar="PATH", help="the new folder of a run, or file")
    add_results(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    if arguments.format in OF_RUNS:
        if arguments.run is None:
            raise UsageError(f"--format {arguments.format}: say which run")
        return _export_run(arguments)
    if arguments.run is not None:
        raise UsageError(f"--format {arguments.format} is of all results; of a run there are {', '.join(OF_RUNS)}")
    return _export_results(arguments)


def _export_run(arguments: argparse.Namespace) -> int:
    from bench.exporting import export_run
    from bench.sweep.sweep_status import find_run_dir

    run_dir = find_run_dir(arguments.results, arguments.run)
    for written in export_run(run_dir, arguments.format, arguments.out):
        print(written)
    return 0


def _export_results(arguments: argparse.Namespace) -> int:
    from importlib.util import find_spec
    from io import BytesIO

    from bench.records import load_frame
    from bench.report.escaping import csv_frame

    if arguments.format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("--format parquet needs pyarrow: pip install 'vlpet-bench[parquet]'; --format csv does not")
    frame = load_frame(arguments.results)
    if arguments.format == "parquet":
        content = BytesIO()
        frame.to_parquet(content, engine="pyarrow", index=False)
        _write(arguments.out, content.getvalue())
    else:
        _write(arguments.out, csv_frame(frame).encode("utf-8"))
    print(f"{arguments.out}: {len(frame)} rows of {frame['run_id'].nunique()} runs")
    return 0


def _write(target: Path, content: bytes) -> None:
    from bench.files import explain_write_errors, write_bytes

    with explain_write_errors(target, "--out"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, content)
