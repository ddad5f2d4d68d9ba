"""``status`` and ``watch``: the state of every run of a sweep, once or live, from its results folder."""

import argparse
import json
import select
import shutil
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

GAP = "  "  # between columns
SHORTEST = {"run": 32, "note": 12}  # characters to which these columns may be cut
LEAST_WANTED = ("job", "node", "memory", "samples/s", "epoch", "step", "left")  # are left out in this order


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_grid(parser)
    add_data(parser)
    add_folders(parser)
    if verb == "status":
        parser.add_argument(
            "--all", action="store_true", help="every run in the results folder, and all that are planned"
        )
        add_format(parser)
    else:
        parser.add_argument("--every", type=seconds, default=2.0, metavar="SECONDS", help="time between updates (2)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.fingerprints import Expectations
    from bench.sweep.expand import expand
    from bench.sweep.sweep_status import SweepObserver

    if verb == "status" and arguments.all:
        cells, further = _everything(arguments)
    else:
        cells, further = expand(planned(arguments)), []  # a started sweep brings its data folders
    observer = SweepObserver(cells, arguments.results, Expectations(given_roots(arguments)), further)
    if verb == "watch":
        return _watch(observer, arguments.every)
    status = observer.look()
    if arguments.format == "json":
        content = {"runs": status.rows, "totals": status.totals, "eta_seconds": status.eta_seconds}
        print(json.dumps(content | {"slurm": status.slurm or None}, indent=1))
    elif arguments.format == "csv":
        show(status.rows, "csv")
    else:
        rows = _used(status.rows)
        show(_fitting(rows, shutil.get_terminal_size().columns) if sys.stdout.isatty() else rows, "table")
        print(f"\n{summary(status)}")
    return 0


def _everything(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Return the cells of all sweeps that were started, each run once, and the names of all other run directories."""
    from bench.records import require_results, run_names
    from bench.sweep.inventory import planned_sweeps

    require_results(arguments.results)
    sweeps = planned_sweeps(arguments.results)
    for sweep in sweeps:
        if sweep.fault:
            print(f"note: the sweep {sweep.key} is left out: {sweep.fault}", file=sys.stderr)
    cells = {cell.run_id: cell for sweep in sweeps for cell in sweep.cells}
    return list(cells.values()), [name for name in run_names(arguments.results) if name not in cells]


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
            live.update(_table(status, live.console.height, live.console.width), refresh=True)
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


def _table(status: Any, height: int, width: int) -> Any:
    """Draw as many runs as fit on ``height`` lines, those first to which something happens."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    order = {name: index for index, name in enumerate(STATES)}
    rows = sorted(status.rows, key=lambda row: order[row["state"]])
    fits = max(3, height - 6)
    lines = _fitting(_used(rows[:fits]), width)
    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0))
    for column in lines[0] if lines else ():
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row, line in zip(rows, lines, strict=False):
        table.add_row(*(Text(value) for value in line.values()), style=STATES[row["state"]].color)
    more = f"... and {len(rows) - fits} more" if len(rows) > fits else ""
    return Group(table, Text(more), Text(summary(status)))


def _used(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return what a terminal shows of runs, without columns in which there is nothing."""
    lines = [_cells(row) for row in rows]
    used = [key for key in (lines[0] if lines else {}) if any(line[key] for line in lines)]
    return [{key: line[key] for key in used} for line in lines]


def _fitting(lines: list[dict[str, str]], width: int) -> list[dict[str, str]]:
    """Return lines that fit on a terminal: without the columns that matter least, with names and notes cut.

    The names of runs lose their middle, because their ends tell them apart.
    """
    columns = list(lines[0]) if lines else []
    widths = {key: max(len(key), *(len(line[key]) for line in lines)) for key in columns}
    least = widths | {key: min(widths[key], SHORTEST[key]) for key in SHORTEST if key in widths}
    for key in LEAST_WANTED:
        if sum(least[name] + len(GAP) for name in columns) - len(GAP) > width and key in columns:
            columns.remove(key)
    free = width - sum(least[name] + len(GAP) for name in columns) + len(GAP)
    for key in SHORTEST:  # the run first, and what is left for the note
        if key in columns:
            more = min(max(free, 0), widths[key] - least[key])
            least[key] += more
            free -= more
    return [{key: _cut(line[key], least[key], middle=key == "run") for key in columns} for line in lines]


def _cut(text: str, width: int, *, middle: bool) -> str:
    """Cut a text to a width.

    >>> _cut("lora-mini-bart-s1-12345678", 17, middle=True), _cut("interrupted", 6, middle=False)
    ('lora-m…1-12345678', 'inter…')
    """
    if len(text) <= width:
        return text
    end = min(10, width // 2) if middle else 0
    return f"{text[: width - end - 1]}…{text[len(text) - end :]}"


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
