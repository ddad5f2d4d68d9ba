"""``report``: tables, plots and the page from the records of a sweep."""

import argparse
import json
import sys
import warnings
from typing import Any

from bench.cli.options import add_execution, add_folders, add_grid, parse_roots
from bench.cli.selection import planned

EXAMPLES = {"report": "example: python -m bench report default --seeds 1,2,3"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_grid(parser)
    add_execution(parser)
    add_folders(parser)
    parser.add_argument("--paper", action="store_true", help="compare with the published numbers where they exist")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed (table)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.records import require_results
    from bench.sweep.expand import expand

    require_results(arguments.results)
    sweep = planned(arguments)
    write_report(sweep, expand(sweep), arguments, announce=True)
    if arguments.paper:
        _print_comparison_with_paper(arguments)
    return 0


def write_report(sweep: Any, cells: list[Any], arguments: argparse.Namespace, *, announce: bool) -> None:
    """Write the report of planned cells; with ``announce`` also print its main table and the paths of its files.

    Raises:
        UsageError: the folder for reports cannot be written.
    """
    import pandas as pd

    from bench import report
    from bench.environment import environment
    from bench.example_scores import example_scores, missing_hint
    from bench.files import explain_write_errors
    from bench.fingerprints import Expectations
    from bench.records import load_results
    from bench.run_dir import RunDir

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        roots = parse_roots([item for item in getattr(arguments, "data", []) if "=" in item])
        tuning = sweep.given.get("evaluate") == "tuning"
        frame = load_results(arguments.results, tuning, Expectations(roots), missing_ok=True)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    planned = plan(cells, arguments.results)
    frame = frame[frame["run_id"].isin([cell["run_id"] for cell in planned])]
    folders = [RunDir(arguments.results, cell["run_id"]) for cell in planned]
    curves = {folder.id: pd.DataFrame(folder.read_curve(), columns=["step", "loss"]) for folder in folders}
    examples = example_scores(arguments.results, (c["run_id"] for c in planned)) if sweep.is_ablation else {}
    if sweep.is_ablation and (hint := missing_hint(arguments.results, (c["run_id"] for c in planned))):
        print(f"note: {hint}", file=sys.stderr)
    versions = {k: str(v) for k, v in environment().items() if k in ("python", "torch", "transformers", "git_commit")}
    folder = arguments.reports / sweep.name
    with explain_write_errors(folder, "--reports"):
        paths = report.write(
            sweep.name,
            frame,
            planned,
            folder,
            {run_id: curve for run_id, curve in curves.items() if len(curve)},
            command=arguments.command,
            environment=versions,
            question=sweep.question,
            examples=examples,
        )
    if not announce:
        return
    if arguments.format == "json":
        print(json.dumps({"cells": planned, "paths": [str(p) for p in paths]}, indent=1))
        return
    print(report.table_text(frame, planned, examples))
    print("wrote")
    for path in paths:
        if path.suffix in (".html", ".md", ".tex", ".png"):
            print(f"  {path}")
    print(f"  {arguments.results / 'runs'}/ (one folder per run)")


def plan(cells: list[Any], results: Any) -> list[dict[str, Any]]:
    """Return the planned cells as reports read them, each with its state and what tables say of its method and tasks.

    ``status`` is "done", "failed" (then ``cause`` says why) or "missing". ``family`` is that of the method;
    ``task_labels``, ``metrics`` and ``splits`` map the names of the cell's tasks.
    """
    import methods
    from bench import tasks

    rows = []
    for cell in cells:
        status, cause = _status(cell, results)
        task_list = [tasks.get(name) for name in cell.tasks]
        rows.append(
            {
                "run_id": cell.run_id,
                "method": cell.method,
                "family": methods.get(cell.method).family,
                "label": cell.label,
                "backbone": cell.backbone,
                "suite": cell.suite,
                "seed": cell.seed,
                "tasks": list(cell.tasks),
                "task_labels": {task.name: task.label for task in task_list},
                "metrics": {task.name: task.metric for task in task_list},
                "splits": {task.name: task.report_split for task in task_list},
                "status": status,
                "cause": cause,
                "base": cell.base,
                "point": dict(cell.point),
                "plot": cell.plot,
            }
        )
    return rows


def _status(cell: Any, results: Any) -> tuple[str, str | None]:
    """Reduce the state of a cell's run to what tables tell apart: done, failed with a cause, or missing."""
    from bench.sweep.run_state import state

    if cell.run is None:
        return "failed", "unsupported"
    current = state(results, cell.run)
    if current.name in ("interrupted", "cancelled"):
        return "failed", "interrupted"
    if current.name in ("failed", "parked"):
        return "failed", current.note
    return ("done" if current.name == "done" else "missing"), None


def _print_comparison_with_paper(arguments: argparse.Namespace) -> None:
    from bench.records import load_results
    from bench.report.paper_comparison import compare_with_paper
    from bench.shipped_files import shipped

    print(compare_with_paper(load_results(arguments.results), shipped("paper")).to_string(index=False))
