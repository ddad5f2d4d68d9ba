"""``compare``: which of a few methods of a sweep is better, how sure that is, and what would decide it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.cli.options import add_data, add_folders, add_recipe, add_style, numbers, word, words
from bench.cli.report import collected
from bench.cli.selection import planned
from bench.errors import UsageError, unknown

EXAMPLES = {"compare": "example: python -m bench compare lora vl-pet-large --sweep default"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("names", nargs="+", type=word, metavar="METHOD", help="two or more rows of the sweep's tables")
    parser.add_argument("--sweep", dest="spec", default="default", metavar="S", help="the sweep they are in (default)")
    parser.add_argument("--suites", type=words, metavar="A,B", help="suites, such as image-text,video-text")
    parser.add_argument("--backbone", "--backbones", dest="backbones", type=words, metavar="B", help="backbones")
    parser.add_argument("--seeds", type=numbers, metavar="1,2", help="seeds: 1,2,3 or 1..3")
    add_recipe(parser)
    add_data(parser)
    add_folders(parser)
    add_style(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed (table)")
    parser.set_defaults(methods=None, tasks=None, settings=[], axes=[], steps=None, drop=None, add=None, only=None)
    parser.set_defaults(but=None, max_cells=None)


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.files import explain_write_errors
    from bench.report import write_comparison
    from bench.report.render import plain_text
    from bench.report.verdicts import verdict_table

    sweep, made, left_out = compared(arguments)
    folder = arguments.reports / sweep.name / "comparisons" / _folder_name(tuple(dict.fromkeys(arguments.names)))
    with explain_write_errors(folder, "--reports"):
        paths = write_comparison(folder, made, arguments.command, arguments.style)
    if arguments.format == "json":
        content = {
            "verdicts": [verdict.content() for _, of_standing in made for verdict in of_standing],
            "paths": [str(path) for path in paths],
            "left_out": left_out,
        }
        print(json.dumps(content, indent=1))
        return 0
    for standing, of_standing in made:
        print("\n".join(f"{verdict.backbone}, {verdict.suite}: {verdict.words}" for verdict in of_standing))
        print()
        print(plain_text(verdict_table(standing, of_standing)))
    if any(verdict.difference.seeds == 1 for _, of_standing in made for verdict in of_standing):
        print("note: one seed: how much another seed would change is not in the intervals", file=sys.stderr)
    print("wrote")
    for path in paths:
        print(f"  {path}")
    return 0


def compared(arguments: argparse.Namespace) -> tuple[Any, list[tuple[Any, Any]], list[str]]:
    """Return the sweep, each standing with the verdicts on the rows that are asked about, and what could not be read.

    Raises:
        UsageError: fewer than two rows are named, one of them does not exist, or no two have scores in common.
    """
    from bench.records import require_results
    from bench.report.run_entries import join
    from bench.report.standing import standings
    from bench.report.verdicts import verdicts
    from bench.sweep.expand import expand

    names = tuple(dict.fromkeys(arguments.names))
    if len(names) < 2:
        raise UsageError(f"compare {names[0]}: name a second method to compare it with")
    sweep = planned(arguments)
    cells = expand(sweep)
    require_results(arguments.results)
    records = collected(sweep, cells, arguments)
    every = standings(join(records.frame, records.plan, records.examples))
    labels = list(dict.fromkeys(label for standing in every for label in standing.rows))
    for name in names:
        if name not in labels:
            raise unknown(f"row of sweep {sweep.name}", name, labels)
    made = [(standing, verdicts(standing, [name for name in names if name in standing.rows])) for standing in every]
    made = [(standing, of_standing) for standing, of_standing in made if of_standing]
    if not made:
        raise UsageError(f"compare {' '.join(names)}: no two of them have scores on the same task and seed")
    return sweep, made, records.left_out


def _folder_name(names: tuple[str, ...]) -> Path:
    from bench.report.table import slug

    return Path(slug("-vs-".join(names)))
