"""``show``: everything about one run, one of its tasks, or one example."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from bench.cli.options import add_folders, parse_roots, show, word
from bench.errors import UsageError

EXAMPLES = {
    "show": "example: python -m bench show lora-mini-bart-image-text-s1\n"
    "         python -m bench show lora-mini-bart-image-text-s1 --task vqa --example 12"
}
WIDTH = 110  # of a long value in a table


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("run", type=word, metavar="RUN", help="a run's id, or the beginning of it")
    parser.add_argument(
        "--task", type=word, metavar="T", help="all metrics of a task, with its best and worst examples"
    )
    parser.add_argument("--example", type=word, metavar="ID", help="one example of the task: source, prediction, score")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=PATH", help="folder of a data root (the record's)"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output (table)")
    add_folders(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Print what was asked for; a failed run is shown with exit code 0 like any other."""
    from bench import run_details
    from bench.sweep.sweep_status import find_run_dir

    if arguments.example and not arguments.task:
        raise UsageError("--example: say of which task with --task T")
    roots = parse_roots(arguments.data)
    folder = find_run_dir(arguments.results, arguments.run)
    content: dict[str, Any]
    if arguments.example:
        content = run_details.describe_example(folder, arguments.task, arguments.example, roots)
    elif arguments.task:
        content = run_details.describe_task(folder, arguments.task)
    else:
        content = run_details.describe_run(folder, arguments.results)
    if arguments.format == "json":
        print(json.dumps(content, indent=1, ensure_ascii=False))
    elif arguments.example:
        _print_example(content)
    elif arguments.task:
        _print_task(content)
    else:
        _print_run(content)
    return 0


def _print_run(run: Mapping[str, Any]) -> None:
    print(f"{run['run']}: {run['state']}{' (' + run['note'] + ')' if run['note'] else ''}")
    identity = ("title", "backbone", "suite", "tasks", "seed", "data", "finished", "imported", "selected")
    _print_section("run", {name: run[name] for name in identity})
    if run["notes"]:
        print("\nnotes\n" + "\n".join(f"  {note}" for note in run["notes"]))
    _print_section("settings that differ from the defaults", run["changed"] or {"": "none"})
    if failure := run["failure"]:
        facts = ("cause", "phase", "step", "type", "message", "log")
        _print_section("failure", {name: failure.get(name) for name in facts})
        print("\n".join(f"  | {line}" for line in failure.get("tail", [])))
        print(f"  try again: {failure['retry']}")
    if run["scores"]:
        print("\nscores")
        _print_scores(run["scores"])
    for evaluation in run["evaluations"]:
        error = (evaluation["error"] or {}).get("message", "")
        print(f"\nevaluation {evaluation['number']} of {evaluation['when']}: {evaluation['split']}  {error}".rstrip())
        if evaluation["scores"]:
            rows = [{"task": k, "score": v["metrics"].get(v["metric"]), **v} for k, v in evaluation["scores"].items()]
            _print_scores(rows)
    _print_section("parameters", run["parameters"])
    _print_section("diagnostics of the method", run["diagnostics"])
    _print_section("time in seconds", {k: v for k, v in run["time"].items() if k != "data_wait_share"})
    if (share := run["time"].get("data_wait_share")) is not None:
        print(f"  data wait {100 * share:.0f} %")
    phases = run["memory"].get("phases", {})
    _print_section("peak memory in bytes", {phase: _pairs(peaks) for phase, peaks in phases.items()})
    _print_section("memory by purpose in bytes", run["memory"].get("analytic", {}))
    _print_section("data root", run["data_root"])
    _print_section("environment", run["environment"])
    ends = {str(a["number"]): f"{a['begun']} {a['outcome'] or 'no end'} {a['reason']}" for a in run["attempts"]}
    _print_section("attempts", ends)
    _print_section("rest of the recipe", run["recipe"])
    print(f"\nfiles in {run['folder']}")
    for name in run["files"]:
        print(f"  {name}")


def _print_task(task: Mapping[str, Any]) -> None:
    print(f"{task['run']}: {task['label']} ({task['task']})")
    facts = ("status", "split", "metric", "edition", "score", "n", "error", "predictions")
    _print_section("score", {name: task.get(name) for name in facts})
    _print_section("all metrics", task.get("metrics", {}))
    for earlier in task.get("history", []):
        title = f"before {earlier['replaced_at']} ({earlier['reason']})"
        _print_section(title, earlier["metrics"] or {"": earlier["error"]})
    for title in ("best", "worst"):
        if task[title]:
            print(f"\n{title} examples")
            show([{name: _short(value, 50) for name, value in row.items()} for row in task[title]], "table")
    if task["note"]:
        print(f"\nnote: {task['note']}")


def _print_example(example: Mapping[str, Any]) -> None:
    print(f"{example['run']}: {example['task']}, {example['split']}, example {example['id']}")
    names = ("source", "root", "visual", "prediction", "reference", "metric", "score", "answers")
    _print_section("example", {name: example[name] for name in names}, width=None)
    if example["note"]:
        print(f"\nnote: {example['note']}")


def _print_scores(scores: Any) -> None:
    columns = ("task", "split", "metric", "score", "n", "edition", "status", "error")
    show(
        [{name: row.get(name) for name in columns} | {"replaced": len(row["history"]) or None} for row in scores],
        "table",
    )
    for row in scores:
        for earlier in row["history"]:
            value = earlier["metrics"].get(earlier["metric"], earlier["error"])
            commit = earlier["replaced_by"].get("git_commit") or earlier["replaced_by"].get("vlpet-bench")
            print(f"  {row['task']}: was {value}; {earlier['reason']} {earlier['replaced_at']} by {commit}")


def _print_section(title: str, values: Mapping[str, Any], width: int | None = WIDTH) -> None:
    """Print aligned names and values below a title; values that are not there are left out."""
    present = {name: value for name, value in values.items() if value is not None}
    if not present:
        return
    if title:
        print(f"\n{title}")
    indent = max(map(len, present))
    for name, value in present.items():
        print(f"  {name:<{indent}}  {_short(value, width)}".rstrip())


def _short(value: Any, width: int | None) -> Any:
    """Return a value as one line of at most ``width`` characters; numbers stay numbers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = _pairs(value) if isinstance(value, dict) else value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
