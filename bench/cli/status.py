"""``status``: the state of every run of a sweep, from its results folder."""

import argparse

from bench.cli.options import add_folders, add_format, add_grid, selected, show

EXAMPLES = {"status": "example: python -m bench status default --format json"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    add_grid(parser)
    add_folders(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Print the states."""
    from bench.records import Folder, read_lines
    from bench.sweep.expand import expand
    from bench.sweep.states import state

    rows = []
    for cell in expand(selected(arguments)):
        now = state(arguments.results, cell.run) if cell.run else None
        curve = read_lines(Folder(arguments.results, cell.run_id).curve)
        rows.append(
            {
                "run": cell.run_id,
                "state": now.name if now else "unsupported",
                "step": curve[-1]["step"] if curve else None,
                "note": now.note if now else cell.reason,
            }
        )
    show(rows, arguments.format)
    return 0
