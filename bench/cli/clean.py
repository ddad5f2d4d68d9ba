"""``clean``: what killed processes have left in the run directories, and its removal."""

import argparse
import sys

from bench.cli.options import add_folders, add_format, show

EXAMPLES = {"clean": "example: python -m bench clean --results results\n         python -m bench clean --yes"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--yes", action="store_true", help="remove what is listed; without it nothing is changed")
    add_folders(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """List the leftovers of all runs, or remove them; what may not be looked at or removed is named and left."""
    from bench.errors import UsageError
    from bench.records import require_results, run_names
    from bench.run_dir import RunDir
    from bench.sweep.claims import ClaimObserver
    from bench.sweep.leftovers import find_leftovers, remove_leftovers

    require_results(arguments.results)
    observer, listed, refused = ClaimObserver(), [], 0
    for name in run_names(arguments.results):
        run_dir = RunDir(arguments.results, name)
        try:
            leftovers = find_leftovers(run_dir, observer)
            if arguments.yes and leftovers:
                remove_leftovers(run_dir, leftovers)
        except (UsageError, OSError) as fault:
            print(f"{name}: is left as it is: {fault}", file=sys.stderr)
            refused += 1
        else:
            listed += leftovers
    if listed or arguments.format != "table":
        rows = [{"file": str(item.path), "bytes": item.size, "why": item.reason} for item in listed]
        show(rows, arguments.format)
    if arguments.format == "table":
        effect = "removed" if arguments.yes else "to remove; --yes removes them"
        print(f"{len(listed)} files, {sum(item.size for item in listed) / 2**20:.1f} MiB {effect}")
    return 1 if refused else 0
