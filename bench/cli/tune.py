"""``tune``: search settings on what no table reports, with the same budget for every method."""

import argparse
import json
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.cli import sweep as sweep_verb
from bench.cli.options import count, execution, show
from bench.cli.selection import selected
from bench.errors import UsageError
from bench.sweep.spec import MAX_NAME
from bench.toml_files import shortened

EXAMPLES = {
    "tune": "example: python -m bench tune --methods lora,ia3 --suites image-text --space lr=1e-3..3e-2 --trials 8\n"
    "         python -m bench tune --ledger"
}
REFUSED = (
    "--select {0}: settings are chosen on validation only; a test split that chooses is no test. GQA and the video "
    "tasks report their validation split, so they are tuned on a part of train that is held out for it"
)


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    sweep_verb.add(parser, verb)
    parser.add_argument(
        "--space", action="append", default=[], metavar="KEY=LOW..HIGH", help="a range, or choices KEY=V,V"
    )
    parser.add_argument("--trials", type=count, default=8, metavar="K", help="configurations besides the default (8)")
    parser.add_argument("--sampler", choices=("random", "grid"), default="random", help="how to search (random)")
    parser.add_argument("--sampler-seed", type=_seed, default=0, metavar="N", help="seed of the search (0)")
    parser.add_argument(
        "--select", default="validation", metavar="SPLIT", help="split to choose settings on (validation)"
    )
    parser.add_argument("--ledger", action="store_true", help="print how many configurations each method was given")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.records import load_frame
    from bench.report.tuning import ledger
    from bench.sweep.expand import base_values
    from bench.sweep.spec import MAX_CELLS
    from bench.sweep.tuning_space import configurations, in_default, space, tuned

    if arguments.ledger:
        rows: list[dict[Any, Any]] = ledger(load_frame(arguments.results, True, missing_ok=True)).to_dict("records")
        show(rows, arguments.format)
        return 0
    if arguments.select != "validation":
        raise UsageError(REFUSED.format(arguments.select))
    if not arguments.space:
        raise UsageError("say what to search and how often, for example --space lr=1e-3..3e-2 --trials 8")
    most = arguments.max_cells or MAX_CELLS
    if arguments.trials > most:
        raise UsageError(f"--trials {arguments.trials:,}: a plan has at most {most:,} cells; lift it with --max-cells")
    if find_spec("optuna") is None:
        raise UsageError("the search needs optuna: pip install 'vlpet-bench[tune]'")
    sweep = selected(arguments)
    searched = space(arguments.space)
    defaults = base_values(sweep, searched)
    points = configurations(searched, arguments.trials, arguments.sampler, arguments.sampler_seed, defaults)
    if number := in_default(points, defaults):
        message = f"{number} of the {len(points)} points of the grid are the default of a method"
        print(f"note: {message}, which is tried once: such methods have fewer trials", file=sys.stderr)
    search = tuned(sweep, points)
    return sweep_verb.perform(
        search, execution(arguments), arguments, after_report=lambda folder: _write_best(search, arguments, folder)
    )


def _seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{shortened(repr(text))}: expected a seed from 0 to 2^32 - 1")
    return number


def _write_best(search: Any, arguments: argparse.Namespace, folder: Path) -> None:
    """Write a sweep of each method with the best of its configurations, to be run on what tables report."""
    from bench.cli.report import plan
    from bench.records import load_frame
    from bench.report.run_entries import join
    from bench.report.tuning import tuned_methods
    from bench.sweep.expand import expand

    cells = expand(search)
    points = {cell.label: dict(cell.point) for cell in cells if cell.label != cell.base}
    for methods in tuned_methods(
        join(load_frame(arguments.results, True, missing_ok=True), plan(cells, arguments.results))
    ):
        first = methods[0].entries[0]
        lines = [
            f"# Chosen by `tune`: the best of {', '.join(f'{m.tried} for {m.method}' for m in methods)}.",
            f"backbones = {json.dumps([first.backbone])}",
            f"suites = {json.dumps([first.suite])}",
            f"tasks = {json.dumps(list(search.tasks))}",
            f"seeds = {json.dumps(list(search.seeds))}",
        ]
        for method in methods:
            lines += ["", "[[variant]]", f"label = {json.dumps(_tuned_label(method.method))}"]
            lines.append(f"method = {json.dumps(method.entries[0].method)}")
            settings = {k: v for k, v in search.given.items() if k != "evaluate"} | points.get(method.best, {})
            lines += [f"set.{json.dumps(key)} = {json.dumps(value)}" for key, value in settings.items()]
        path = folder / f"best-{first.backbone.split('/')[-1]}-{first.suite}.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if arguments.format == "table":
            print(f"  {path} (run it with: python -m bench sweep {shlex.quote(str(path))})")


def _tuned_label(label: str) -> str:
    """Return the label of a tuned method; a label of a variant has no commas, those of methods with settings do."""
    return f"{label.replace(',', ' ')[: MAX_NAME - 10]} (tuned)"
