"""``status`` and ``watch``: the state of every run of a sweep, once or live, from its results folder."""

import argparse
import json
import select
import sys
import time
from typing import Any

from bench.cli.options import add_data, add_folders, add_format, add_grid, given_roots, seconds, show
from bench.cli.selection import planned
from bench.states import STATES

EXAMPLES = {
    "status": "example: python -m bench status default --format json",
    "watch": "example: python -m bench watch default --methods vl-pet-large,lora --seeds 1,2",
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_grid(parser)
    add_data(parser)
    add_folders(parser)
    if verb == "status":
        add_format(parser)
    else:
        parser.add_argument("--every", type=seconds, default=2.0, metavar="SECONDS", help="time between updates (2)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.fingerprints import Expectations
    from bench.sweep.expand import expand
    from bench.sweep.sweep_status import SweepObserver

    sweep = planned(arguments)  # a started sweep brings its data folders
    observer = SweepObserver(expand(sweep), arguments.results, Expectations(given_roots(arguments)))
    if verb == "watch":
        return _watch(observer, arguments.every)
    status = observer.look()
    if arguments.format == "json":
        content = {"runs": status.rows, "totals": status.totals, "eta_seconds": status.eta_seconds}
        print(json.dumps(content | {"slurm": status.slurm or None}, indent=1))
    elif arguments.format == "csv":
        show(status.rows, "csv")
    else:
        rows = [_cells(row) for row in status.rows]
        used = [key for key in (rows[0] if rows else {}) if any(row[key] for row in rows)]
        show([{key: row[key] for key in used} for row in rows], "table")
        print(f"\n{summary(status)}")
    return 0


def _watch(observer: Any, every: float) -> int:
    """Show the states until all runs are settled; whoever stops watching stops nothing.

    Where the output is no terminal, it is the totals on a line whenever they change.
    """
    from rich.live import Live

    if not sys.stdout.isatty():
        return _watch_in_lines(observer, every)
    with Live(auto_refresh=False) as live:
        while True:
            status = observer.look()
            live.update(_table(status, live.console.height), refresh=True)
            if status.is_settled:
                return 0
            time.sleep(every)


def _watch_in_lines(observer: Any, every: float) -> int:
    shown = None
    while True:
        status = observer.look()
        if status.totals != shown:
            print(summary(status), flush=True)
            shown = status.totals
        if status.is_settled or _reader_has_gone():
            return 0
        time.sleep(every)


def _reader_has_gone() -> bool:
    """Return whether nobody reads the pipe any more that the output is; there may be nothing to write for hours."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are always told
        return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call on this system, or no file behind the stream
        return False


def _table(status: Any, height: int) -> Any:
    """Draw as many runs as fit on ``height`` lines, those first to which something happens."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    order = {name: index for index, name in enumerate(STATES)}
    rows = sorted(status.rows, key=lambda row: order[row["state"]])
    fits = max(3, height - 6)
    table = Table(box=None, pad_edge=False)
    for column in _cells(rows[0]) if rows else ():
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row in rows[:fits]:
        table.add_row(*(Text(str(value)) for value in _cells(row).values()), style=STATES[row["state"]].color)
    more = f"... and {len(rows) - fits} more" if len(rows) > fits else ""
    return Group(table, Text(more), Text(summary(status)))


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """Return what a terminal shows of a run."""
    step = "" if row["step"] is None else f"{row['step']}/{row['steps']}" if row["steps"] else str(row["step"])
    rate, memory = row["samples_per_second"], row["memory_bytes"]
    log = f"  log: {row['log']}" if row["log"] and row["state"] in ("failed", "parked") else ""
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
        "note": row["note"] + log,
    }


def summary(status: Any) -> str:
    """Return one line: totals and the time left."""
    total = ", ".join(f"{number} {name}" for name, number in status.totals.items())
    left = f"; about {duration(status.eta_seconds)} left" if status.eta_seconds else ""
    return f"{len(status.rows)} runs: {total}{left}" + (f". {status.slurm}" if status.slurm else "")


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    >>> duration(75), duration(7500), duration(None)
    ('1 min 15 s', '2 h 05 min', '')
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
