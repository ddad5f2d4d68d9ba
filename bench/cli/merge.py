"""``merge``: the results of several machines or people in one folder."""

import argparse
from collections import Counter

from bench.cli.options import add_format, add_results, path, show

EXAMPLES = {"merge": "example: python -m bench merge /mnt/other/results --results results"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("sources", nargs="+", type=path, metavar="DIR", help="results folders to copy from")
    add_results(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Copy what is new and name what is not copied; exit code 1 where there are conflicts or faults."""
    from bench.records import require_results
    from bench.sweep.merging import merge

    for source in arguments.sources:
        require_results(source)
    merged = [run for source in arguments.sources for run in merge(arguments.results, source)]
    rows = [
        {"run": run.run, "outcome": run.outcome, "from": str(run.source), "note": run.note}
        for run in merged
        if arguments.format != "table" or run.outcome not in ("copied", "same")
    ]
    if rows or arguments.format != "table":
        show(rows, arguments.format)
    counted = Counter(run.outcome for run in merged)
    if arguments.format == "table":
        print(", ".join(f"{counted[name]} {name}" for name in ("copied", "same", "conflict", "left out")))
    return 1 if counted["conflict"] or counted["left out"] else 0
