"""``list`` and ``du``: the sweeps of a results folder, and the room that runs take."""

import argparse
from typing import Any

from bench.cli.options import add_format, add_results, count, show

EXAMPLES = {
    "list": "example: python -m bench list --results results",
    "du": "example: python -m bench du --results results --largest 20",
}
LARGEST = 10
WIDTH = 60  # of what a sweep is, in a table


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    if verb == "du":
        parser.add_argument(
            "--largest", type=count, default=LARGEST, metavar="N", help=f"how many runs the table lists ({LARGEST})"
        )
    add_results(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.records import require_results

    require_results(arguments.results)
    return _list(arguments) if verb == "list" else _du(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from bench.sweep.inventory import inventory

    rows = inventory(arguments.results)
    if arguments.format != "json":
        rows = [row | {"states": ", ".join(f"{n} {name}" for name, n in row["states"].items())} for row in rows]
    if arguments.format != "table":
        show(rows, arguments.format)
        return 0
    lines = [
        {
            "sweep": row["sweep"],
            "state": row["states"] or "?",
            "size": size(row["bytes"]),
            "started": (row["started"] or "")[:16].replace("T", " "),
            "what": _short(row["note"] or row["what"]),
        }
        for row in rows
    ]
    show(lines, "table")
    if not lines:
        print(f"no sweep was started in {arguments.results}")
    return 0


def _du(arguments: argparse.Namespace) -> int:
    from bench.records import run_names
    from bench.run_dir import RunDir
    from bench.sweep.inventory import KINDS, OTHER, usage

    measured = {name: usage(RunDir(arguments.results, name).path) for name in run_names(arguments.results)}
    kinds = (*KINDS, OTHER)
    ordered = sorted(measured, key=lambda name: (-measured[name].total, name))
    rows: list[dict[str, Any]] = [
        {
            "run": name,
            "total": measured[name].total,
            **{kind: measured[name].by_kind[kind] for kind in kinds},
            "note": "; ".join(measured[name].faults[:1]),
        }
        for name in ordered
    ]
    if arguments.format != "table":
        show(rows, arguments.format)
        return 0
    total = {key: sum(row[key] for row in rows) for key in ("total", *kinds)}
    lines = [*rows[: arguments.largest], {"run": f"all {len(rows)} runs", **total, "note": ""}]
    show(
        [{key: size(value) if isinstance(value, int) else value for key, value in row.items()} for row in lines],
        "table",
    )
    return 0


def size(number: int) -> str:
    """Return a number of bytes as people read it.

    >>> size(0), size(1536), size(3 * 2**30)
    ('0 B', '1.5 KiB', '3.0 GiB')
    """
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
