"""``report``: tables, plots and the page from the records of a sweep."""

import argparse
import json
import sys
import warnings
from typing import Any

from bench.cli.options import add_execution, add_folders, add_grid, selected

EXAMPLES = {"report": "example: python -m bench report default --seeds 1,2,3"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    add_grid(parser)
    add_execution(parser)
    add_folders(parser)
    parser.add_argument("--paper", action="store_true", help="compare with the published numbers where they exist")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed (table)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Write the report."""
    from bench.sweep.expand import expand

    sweep = selected(arguments)
    write_report(sweep, expand(sweep), arguments, announce=True)
    if arguments.paper:
        _compare(arguments)
    return 0


def write_report(sweep: Any, cells: list[Any], arguments: argparse.Namespace, *, announce: bool) -> None:
    """Write the report of planned cells and, if wanted, print its table and paths."""
    import pandas as pd

    from bench import report
    from bench.environment import environment
    from bench.example_scores import example_scores
    from bench.records import RunDir, explain_write_errors, load_results, read_lines

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = load_results(arguments.results, tuning=sweep.given.get("evaluate") == "tuning")
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    planned = plan(cells, arguments.results)
    frame = frame[frame["run_id"].isin([cell["run_id"] for cell in planned])]
    curves = {c["run_id"]: pd.DataFrame(read_lines(RunDir(arguments.results, c["run_id"]).curve)) for c in planned}
    examples = example_scores(arguments.results, (c["run_id"] for c in planned)) if sweep.is_ablation else {}
    shown = {k: str(v) for k, v in environment().items() if k in ("python", "torch", "transformers", "git_commit")}
    folder = arguments.reports / sweep.name
    with explain_write_errors(folder, "--reports"):
        paths = report.write(
            sweep.name,
            frame,
            planned,
            folder,
            {run_id: curve for run_id, curve in curves.items() if len(curve)},
            command=arguments.command,
            environment=shown,
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
    """Return the planned cells with their states, as the report reads them: done, failed with a cause, or missing."""
    import methods
    from bench.sweep.states import state

    rows = []
    for cell in cells:
        status, cause = "failed", "unsupported"
        if cell.run:
            now = state(results, cell.run)
            stopped = now.name in ("interrupted", "cancelled")
            status, cause = ("failed", "interrupted") if stopped else (now.name.replace("parked", "failed"), now.note)
        rows.append(
            {
                "run_id": cell.run_id,
                "method": cell.method,
                "family": getattr(methods.get(cell.method), "family", "other"),
                "label": cell.label,
                "backbone": cell.backbone,
                "suite": cell.suite,
                "seed": cell.seed,
                "tasks": list(cell.tasks),
                "status": status if status in ("done", "failed") else "missing",
                "cause": cause if status == "failed" else None,
                "base": cell.base,
                "point": dict(cell.point),
                "plot": cell.plot,
            }
        )
    return rows


def _compare(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from bench import report
    from bench.records import load_results

    published = Path(__file__).resolve().parents[2] / "results" / "paper"
    print(report.compare_with_paper(load_results(arguments.results), published).to_string(index=False))
