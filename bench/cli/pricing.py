"""What a plan costs: the state and the price of every cell, and their sum."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STATES = {
    "done": "cached",
    "failed": "failed",
    "parked": "failed",
    "running": "running",
}  # of a run; every other one is still to run


def priced(cells: Sequence[Any], results: Path, where: Any, *, retry_failed: bool = False) -> list[dict[str, Any]]:
    """Return a row per cell: cached, to run, failed, running, unsupported, or blocked by missing data.

    What is to run has its estimated ``seconds`` on ``hardware`` and ``bytes``, None where nothing like it was measured.
    """
    from bench.cli.methods import count, feature_columns
    from bench.data.roots import why_blocked
    from bench.sweep.cost_model import CostModel
    from bench.sweep.states import state

    measured = CostModel(results)
    counted: dict[str, Any] = {}
    rows = []
    for cell in cells:
        row: dict[str, Any] = {"cell": cell.label, "seed": cell.seed, "run": cell.run_id, "state": "unsupported"}
        row |= {"trainable": None, "percent": None, "seconds": None, "bytes": None, "hardware": ""}
        row |= {"note": cell.reason}
        rows.append(row)
        if cell.run is None:
            continue
        now = state(results, cell.run)
        columns = feature_columns(cell.backbone, cell.suite)
        key = json.dumps([cell.backbone, cell.method, columns, cell.run.overrides, cell.tasks], sort_keys=True)
        if key not in counted:
            counted[key] = count(cell.backbone, cell.method, columns, cell.run.overrides, cell.tasks)
        again = now.name in ("failed", "parked") and retry_failed
        row |= {
            "state": "to run" if again else STATES.get(now.name, "to run"),
            "trainable": counted[key].trainable,
            "percent": round(counted[key].percent, 4),
            "note": now.name if now.name == "interrupted" else now.note,
        }
        if row["state"] == "to run":
            price = measured.price(cell.run, counted[key].trainable)
            row |= {"seconds": price.seconds, "bytes": price.disk, "hardware": price.hardware}
            if blocked := why_blocked(cell.run.data, cell.suite, where.data):
                row |= {"state": "blocked", "note": blocked}
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines under a plan: how many runs of each state, and what those to run cost together.

    >>> row = {"state": "to run", "seconds": 1800.0, "bytes": 4_000_000, "hardware": "cuda: X"}
    >>> summary([row, row, {**row, "state": "cached"}])
    ['3 runs: 2 to run, 1 cached', 'to run: 1.0 h of one cuda: X, 8 MB on disk']
    """
    totals = Counter(row["state"] for row in rows)
    lines = [f"{len(rows)} runs: " + ", ".join(f"{number} {name}" for name, number in totals.items())]
    todo = [row for row in rows if row["state"] == "to run"]
    known = [row for row in todo if row["seconds"] is not None]
    for hardware in dict.fromkeys(row["hardware"] for row in known):
        here = [row for row in known if row["hardware"] == hardware]
        seconds, disk = sum(row["seconds"] for row in here), sum(row["bytes"] for row in here)
        lines.append(f"to run: {_time(seconds)} of one {hardware}, {_size(disk)} on disk")
    if len(known) < len(todo):
        lines.append(f"{len(todo) - len(known)} runs have no price: nothing like them was measured")
    return lines


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _size(disk: int) -> str:
    return f"{disk / 1e9:.1f} GB" if disk >= 1e9 else f"{disk / 1e6:.0f} MB"
