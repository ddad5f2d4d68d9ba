"""``report``: tables, plots and the page from the records of a sweep."""

import argparse
import json
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cli.options import add_execution, add_folders, add_grid, add_name, add_style, given_roots, path
from bench.cli.report_folder import ReportFolder
from bench.cli.selection import planned
from bench.errors import UsageError

DETAILED = 200  # runs that the page tells everything about: more would make a page that is slow to open
LOG_BYTES = 3000
EXAMPLES = {"report": "example: python -m bench report default --seeds 1,2,3"}
SAME_RESULT = (
    "The same run on the same processor, with the same number of threads and the same versions, gives the same bits. "
    "Another processor or number of threads, a GPU, or another version of torch rounds otherwise, and its scores may "
    "differ by a few examples."
)


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_grid(parser)
    add_name(parser)
    add_execution(parser)
    add_folders(parser)
    add_style(parser)
    parser.add_argument("--paper", action="store_true", help="compare with the published numbers where they exist")
    parser.add_argument(
        "--images",
        type=path,
        metavar="DIR",
        help="pictures that the page shows beside predictions, named like the features (those in the data root)",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed (table)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.records import require_results
    from bench.sweep.expand import expand

    if arguments.images and not arguments.images.is_dir():
        raise UsageError(f"--images {arguments.images}: no such folder")
    sweep = planned(arguments)
    cells = expand(sweep)
    require_results(arguments.results)
    write_report(sweep, cells, arguments, announce=True)
    return 0


def write_report(sweep: Any, cells: list[Any], arguments: argparse.Namespace, *, announce: bool) -> Path:
    """Write the report of planned cells and return its folder; ``announce`` prints its main table and its paths, too.

    Raises:
        UsageError: the folder for reports cannot be written.
    """
    from bench import report
    from bench.environment import environment
    from bench.files import explain_write_errors
    from bench.side_by_side import side_by_side
    from bench.training_curve import read_curves

    records = collected(sweep, cells, arguments)
    frame, planned, examples, left_out = records.frame, records.plan, records.examples, records.left_out
    curves, unreadable = read_curves(arguments.results, [cell["run_id"] for cell in planned])
    for line in unreadable:
        print(f"warning: {line}", file=sys.stderr)
    versions = {k: str(v) for k, v in environment().items() if k in ("python", "torch", "transformers", "git_commit")}
    if hardware := sorted(set(frame["hardware"].dropna())):
        versions |= {"hardware of the runs": "; ".join(hardware), "the same result": SAME_RESULT}
    paper = with_paper(frame) if getattr(arguments, "paper", False) else None
    faults: list[str] = []
    with explain_write_errors(arguments.reports, "--reports"):
        place = ReportFolder.claim(arguments.reports, sweep)
        paths = report.write(
            sweep.name,
            frame,
            planned,
            place.path,
            curves,
            command=arguments.command,
            environment=versions,
            question=sweep.question,
            examples=examples,
            left_out=[*left_out, *unreadable],
            on_fault=faults.append,
            style=arguments.style,
            paper=paper,
            runs=_run_details(arguments.results, [cell["run_id"] for cell in planned]),
            predictions=side_by_side(
                arguments.results, planned, given_roots(arguments), getattr(arguments, "images", None)
            ),
            sweep_file=json.dumps(sweep.content(), indent=1, default=str),
        )
        place.finish(paths)
    for line in faults:
        print(f"warning: {line}", file=sys.stderr)
    if not announce:
        return place.path
    if paper and paper.reasons:
        print("\n".join(paper.reasons), file=sys.stderr if arguments.format == "json" else sys.stdout)
    if arguments.format == "json":
        content = {
            "cells": planned,
            "tables": report.json_tables(frame, planned, examples, paper),
            "paths": [str(p) for p in paths],
            "left_out": [*left_out, *unreadable, *faults],
        }
        print(json.dumps(content, indent=1))
        return place.path
    print(report.table_text(frame, planned, examples, paper))
    print("wrote")
    for written in paths:
        if written.suffix in (".html", ".md", ".tex", ".png"):
            print(f"  {written}")
    for line in faults:
        print(f"  ({line})")
    print(f"  {arguments.results / 'runs'}/ (one folder per run)")
    return place.path


@dataclass(frozen=True)
class Collected:
    """What a report of planned cells is made from: records, plan, scores of examples, and what could not be read."""

    frame: Any
    plan: list[dict[str, Any]]
    examples: dict[str, dict[str, Any]]
    left_out: list[str]


def collected(sweep: Any, cells: list[Any], arguments: argparse.Namespace) -> Collected:
    """Read the records of planned cells and the scores of their examples; what cannot be read is a line on stderr."""
    from bench.example_scores import example_scores, missing_hint
    from bench.fingerprints import Expectations
    from bench.records import load_frame

    left_out = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuning = sweep.given.get("evaluate") == "tuning"
        frame = load_frame(arguments.results, tuning, Expectations(given_roots(arguments)), missing_ok=True)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
        left_out.append(str(warning.message))
    planned = plan(cells, arguments.results)
    frame = frame[frame["run_id"].isin([cell["run_id"] for cell in planned])]
    examples = example_scores(arguments.results, (cell["run_id"] for cell in planned))
    hint = missing_hint(arguments.results, (cell["run_id"] for cell in planned))
    if hint and not getattr(arguments, "quiet", False):
        print(f"note: {hint}", file=sys.stderr)
    return Collected(frame, planned, examples, left_out)


def plan(cells: list[Any], results: Any) -> list[dict[str, Any]]:
    """Return the planned cells as reports read them, each with its state and what tables say of its method and tasks.

    ``status`` is "done", "failed" (then ``cause`` says why), "missing", or the state of a run that is neither, such as
    "running". ``configuration`` is what is run, as text by name; ``family`` is that of the method; ``task_labels``,
    ``metrics`` and ``splits`` map the names of the cell's tasks.
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
                "configuration": _configuration(cell),
                "base": cell.base,
                "point": dict(cell.point),
                "plot": cell.plot,
            }
        )
    return rows


def _configuration(cell: Any) -> dict[str, str]:
    """Return what a planned cell runs, besides backbone, suite and seed; empty for a cell that cannot run."""
    from bench.report.run_entries import configuration

    if cell.run is None:
        return {}
    recipe = cell.run.recipe.model_dump(by_alias=True, exclude={"eval_batch_size", "checkpoint_every"})
    run = cell.run
    return configuration(run.overrides, recipe, method=run.method, tasks=list(run.tasks), data=run.data)


def _status(cell: Any, results: Any) -> tuple[str, str | None]:
    """Reduce the state of a cell's run to what tables tell apart, and the cause of a failure."""
    from bench.states import STATES
    from bench.sweep.run_state import state

    if cell.run is None:
        return "failed", "unsupported"
    current = state(results, cell.run)
    if STATES[current.name].plan == "failed":
        return "failed", current.note or "error"
    if current.name in ("interrupted", "cancelled", "preempted"):
        return "failed", "interrupted"
    return current.name, None


def _run_details(results: Path, run_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Return everything about the first runs that exist, with the ends of their logs."""
    from bench.errors import UsageError
    from bench.run_details import describe_run
    from bench.run_dir import RunDir

    details: dict[str, dict[str, Any]] = {}
    for run_id in run_ids:
        folder = RunDir(results, run_id)
        if len(details) >= DETAILED or not folder.path.is_dir():
            continue
        with suppress(UsageError, OSError):  # its tables say what is wrong with it
            details[run_id] = describe_run(folder, results) | {"log_tail": _log_tail(folder.log)}
    return details


def _log_tail(log: Path) -> str:
    from bench.files import require_regular_file

    with suppress(OSError):
        require_regular_file(log)
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_BYTES))
            return file.read().decode("utf-8", errors="replace")
    return ""


def with_paper(frame: Any) -> Any:
    """Return the scores of a frame of planned runs beside published ones."""
    from bench import backbones
    from bench.report.paper_comparison import compare_with_paper
    from bench.shipped_files import shipped

    return compare_with_paper(
        frame,
        shipped("paper"),
        unpretrained=[name for name in frame["backbone"].unique() if backbones.has_random_weights(name)],
        published_name=backbones.published_name,
        paper_settings=_paper_settings,
    )


def _paper_settings(backbone: str, suite: str, method: str) -> dict[str, Any] | None:
    """Return the recipe that the paper has for a method, None where it has none."""
    from bench.config import resolve
    from bench.errors import UsageError
    from methods.core.errors import MethodError

    try:
        recipe = resolve(backbone, method, suite, recipe="paper").recipe
    except (UsageError, MethodError):
        return None
    return recipe.model_dump(by_alias=True, exclude={"eval_batch_size", "checkpoint_every"})
