"""``status`` and ``watch``: the state of every run of a sweep, once or live, from its results folder."""

import argparse
import json
import time
from typing import Any

from bench.cli.options import add_folders, add_format, add_grid, selected, show

EXAMPLES = {
    "status": "example: python -m bench status default --format json",
    "watch": "example: python -m bench watch default --methods vl-pet-large,lora --seeds 1,2",
}
COLORS = {"done": "green", "running": "cyan", "failed": "red", "parked": "red", "preempted": "yellow", "queued": "blue"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    add_grid(parser)
    add_folders(parser)
    if verb == "status":
        add_format(parser)
    else:
        parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (2)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Print the states."""
    from bench.sweep.expand import expand
    from bench.sweep.sweep_status import SweepObserver

    looking = SweepObserver(expand(selected(arguments)), arguments.results)
    if verb == "watch":
        return _watch(looking, arguments.every)
    seen = looking.look()
    if arguments.format == "json":
        told = {"runs": seen.rows, "totals": seen.totals, "eta_seconds": seen.eta_seconds, "slurm": seen.slurm or None}
        print(json.dumps(told, indent=1))
    elif arguments.format == "csv":
        show(seen.rows, "csv")
    else:
        rows = [_cells(row) for row in seen.rows]
        used = [key for key in (rows[0] if rows else {}) if any(row[key] for row in rows)]
        show([{key: row[key] for key in used} for row in rows], "table")
        print(f"\n{summary(seen)}")
    return 0


def _watch(looking: Any, every: float) -> int:
    """Show the states until all runs are settled; stopping to look stops nothing."""
    from rich.live import Live

    from bench.sweep.sweep_status import OPEN

    with Live(auto_refresh=False) as live:
        while True:
            seen = looking.look()
            live.update(_table(seen, live.console.height), refresh=True)
            if not any(state in OPEN for state in seen.totals):
                return 0
            time.sleep(max(0.1, every))


def _table(seen: Any, height: int) -> Any:
    """Draw as many runs as fit, those that something happens to first."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from bench.sweep.sweep_status import OPEN

    order = {name: index for index, name in enumerate(("running", "preempted", "failed", "parked", *OPEN))}
    rows = sorted(seen.rows, key=lambda row: order.get(row["state"], len(order)))
    fits = max(3, height - 6)
    table = Table(box=None, pad_edge=False)
    for column in _cells(rows[0]) if rows else ():
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row in rows[:fits]:
        table.add_row(*(Text(str(v)) for v in _cells(row).values()), style=COLORS.get(row["state"], ""))
    more = f"... and {len(rows) - fits} more" if len(rows) > fits else ""
    return Group(table, Text(more), Text(summary(seen)))


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """Return what a terminal shows of a run."""
    step = "" if row["step"] is None else f"{row['step']}/{row['steps']}" if row["steps"] else str(row["step"])
    rate, memory = row["samples_per_second"], row["memory_bytes"]
    where = f"  log: {row['log']}" if row["log"] and row["state"] in ("failed", "parked") else ""
    return {
        "run": row["run"],
        "state": row["state"],
        "step": step,
        "epoch": "" if row["epoch"] is None else f"{row['epoch']:.1f}",
        "left": duration(row["eta_seconds"]),
        "samples/s": "" if rate is None else f"{rate:.0f}",
        "memory": "" if memory is None else f"{memory / 2**30:.1f} GiB",
        "node": row["node"] or "",
        "job": row["job"] or "",
        "note": row["note"] + where,
    }


def summary(seen: Any) -> str:
    """Return one line: totals and the time left."""
    total = ", ".join(f"{number} {name}" for name, number in seen.totals.items())
    left = f"; about {duration(seen.eta_seconds)} left" if seen.eta_seconds else ""
    return f"{len(seen.rows)} runs: {total}{left}" + (f". {seen.slurm}" if seen.slurm else "")


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    >>> duration(75), duration(7500), duration(None)
    ('1 min 15 s', '2 h 05 min', '')
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
