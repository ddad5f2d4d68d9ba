"""``ablate``: a built-in question about a method, as a sweep whose tables are differences to a base."""

import argparse
from typing import Any

from bench.cli import sweep
from bench.cli.options import show
from bench.errors import UsageError

EXAMPLES = {
    "ablate": "example: python -m bench ablate granularity --backbone mini-bart --methods vl-pet-large,vl-adapter\n"
    "         python -m bench ablate --list"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    sweep.add(parser, verb)
    parser.set_defaults(spec=None)
    parser.add_argument("--list", action="store_true", help="describe the built-in ablations")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.sweep.spec import ABLATIONS, load, names

    if arguments.list:
        rows = [_description(load(name)) for name in names(ABLATIONS)]
        if arguments.format == "table":
            rows = [{key: row[key] for key in ("ablation", "changes", "question")} for row in rows]
        show(rows, arguments.format)
        return 0
    if arguments.spec is None:
        raise UsageError(f"say which ablation: {', '.join(names(ABLATIONS))}, or a TOML file")
    return sweep.call(arguments, "sweep")


def _description(ablation: Any) -> dict[str, Any]:
    changes = [*ablation.axes, *(f"-{name}" for name in ablation.drop), *(f"+{name}" for name in ablation.add)]
    return {
        "ablation": ablation.name,
        "question": ablation.question,
        "changes": ", ".join(changes),
        "bases": list(ablation.methods) + [variant.label for variant in ablation.variant],
        "axes": {name: list(values) for name, values in ablation.axes.items()},
        "suites": list(ablation.suites),
        "plot": ablation.plot,
    }
