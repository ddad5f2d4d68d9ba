"""``sweep``: plan, run what is missing, report."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from bench.cli.options import add_execution, add_folders, add_grid, execution, selected, show
from bench.errors import UsageError

EXAMPLES = {
    "sweep": "example: python -m bench sweep --methods vl-pet-large,lora --suites image-text --seeds 1,2,3\n"
    "         python -m bench sweep my_sweep.toml --set steps=200 --dry-run"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    add_grid(parser)
    add_execution(parser)
    add_folders(parser)
    parser.add_argument(
        "--executor", choices=("inline", "local"), default="inline", help="this process, or workers (inline)"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="workers of --executor local (2)")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    parser.add_argument("--dry-run", "-n", action="store_true", help="show the planned runs and write nothing")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="what is printed at the end (table)"
    )


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Run the sweep."""
    from bench.sweep import spec

    if arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: expected at least 1")
    sweep = selected(arguments)
    cells = spec.expand(sweep)
    where = execution(arguments)
    if arguments.dry_run:
        return dry_run(cells, arguments)
    check_data(cells, where)
    code = _run(sweep, cells, where, arguments)
    return code if code else _outcome(cells, arguments.results)


def check_data(cells: list[Any], where: Any) -> None:
    """Find every data root before anything expensive begins."""
    from bench.data.roots import locate

    for name in dict.fromkeys(cell.run.data for cell in cells if cell.run):
        locate(name, where.data)


def _run(sweep: Any, cells: list[Any], where: Any, arguments: argparse.Namespace) -> int:
    from bench.cli.progress import Progress
    from bench.cli.report import write_report
    from bench.sweep.execute import local, pending, work_through

    runs = [cell.run for cell in cells if cell.run]
    todo, settled = pending(runs, arguments.results, arguments.retry_failed)
    if not arguments.quiet:
        told = (
            f"{len(runs)} runs: {len(todo)} to do, {len(settled)} already settled, {len(cells) - len(runs)} unsupported"
        )
        print(told, file=sys.stderr)
    interrupted = False
    if todo:
        with Progress(len(todo), quiet=arguments.quiet) as progress:
            try:
                if arguments.executor == "local":
                    local(
                        todo,
                        where,
                        arguments.results.resolve(),
                        jobs=arguments.jobs,
                        report=progress,
                        retry_failed=arguments.retry_failed,
                    )
                else:
                    work_through(todo, where, arguments.results, progress, arguments.retry_failed)
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        again = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
        print(f"interrupted; everything done so far is kept. Go on with: {again}", file=sys.stderr)
        return 130
    write_report(sweep.name, cells, arguments, announce=True)
    return 0


def _outcome(cells: list[Any], results: Path) -> int:
    """0 where every cell is done, 1 where some failed or cannot be had."""
    from bench.records import Corrupt, Folder

    try:
        records = [Folder(results, cell.run.id).read() if cell.run else None for cell in cells]
    except Corrupt:
        return 1
    whole = all(
        record is not None and record.status == "done" and all(s.status == "done" for s in record.scores.values())
        for record in records
    )
    return 0 if whole else 1


def dry_run(cells: list[Any], arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from bench.cli.methods import count, feature_columns
    from bench.records import state

    rows = []
    for cell in cells:
        row: dict[str, Any] = {
            "run": cell.run_id,
            "state": "unsupported",
            "trainable": None,
            "percent": None,
            "note": cell.reason,
        }
        if cell.run:
            known, note = state(arguments.results, cell.run)
            counted = count(cell.backbone, cell.method, feature_columns(cell.backbone, cell.suite), cell.run.overrides)
            row |= {
                "state": {"done": "cached", "failed": "failed"}.get(known, "to run"),
                "trainable": counted.trainable,
                "percent": round(counted.percent, 4),
                "note": note,
            }
        rows.append(row)
    if arguments.format == "json":
        print(json.dumps(rows, indent=1))
    else:
        show(rows, "table")
        states = [row["state"] for row in rows]
        print(f"\n{len(rows)} runs: " + ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)))
    return 0
