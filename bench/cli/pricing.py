"""What a plan costs: the state and the price of every cell, and their sum."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.states import DEFAULT_RETRY, STATES, RetryPolicy


def priced(
    cells: Sequence[Any],
    results: Path,
    run_execution: Any,
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    retry_failed: bool = False,
    keep_stale: bool = False,
    cost_model: Any = None,
) -> list[dict[str, Any]]:
    """Return a row per cell: cached, to run, failed, running, unsupported, or blocked by missing data.

    What is to run has its estimated ``seconds`` on ``hardware`` and ``bytes`` on disk, None where nothing is known of
    it, and ``price``: what they were estimated from.
    """
    from bench.cli.methods import count, feature_columns
    from bench.data.roots import why_blocked
    from bench.fingerprints import Expectations
    from bench.sweep.cost_model import CostModel
    from bench.sweep.run_state import state

    expected = Expectations(run_execution.data)
    cost_model = cost_model or CostModel(results)
    counts: dict[str, Any] = {}
    rows = []
    for cell in cells:
        row: dict[str, Any] = {"cell": cell.label, "seed": cell.seed, "run": cell.run_id}
        row |= {"state": STATES["unsupported"].plan, "trainable": None, "percent": None}
        row |= {"seconds": None, "bytes": None, "hardware": "", "price": "", "note": cell.reason}
        rows.append(row)
        if cell.run is None:
            continue
        current = state(results, cell.run, expected=expected)
        columns = feature_columns(cell.backbone, cell.suite)
        key = json.dumps([cell.backbone, cell.method, columns, cell.run.overrides, cell.tasks], sort_keys=True)
        if key not in counts:
            counts[key] = count(cell.backbone, cell.method, columns, cell.run.overrides, cell.tasks)
        failed = current.name in ("failed", "parked")
        runs_again = failed and (retry_failed or not current.is_settled(retry))
        is_kept = current.name == "stale" and keep_stale
        row |= {
            "state": "stale" if is_kept else STATES["missing" if runs_again else current.name].plan,
            "trainable": counts[key].trainable,
            "percent": round(counts[key].percent, 4),
            "note": _note(current),
        }
        if row["state"] == STATES["missing"].plan:
            price = cost_model.price(cell.run, counts[key].trainable)
            row |= {"seconds": price.seconds, "bytes": price.disk, "hardware": price.hardware, "price": price.source}
            if blocked := why_blocked(cell.run.data, cell.suite, run_execution.data):
                row |= {"state": STATES["blocked"].plan, "note": blocked}
    return rows


def _note(current: Any) -> str:
    if current.name == "interrupted":
        return "interrupted"
    return f"stale: {current.note}" if current.name == "stale" else str(current.note)


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines under a plan: how many runs of each state, and what those to run cost together.

    >>> row = {"state": "to run", "seconds": 1800.0, "bytes": 4_000_000, "hardware": "cuda: X", "price": "1 run"}
    >>> summary([row, row, {**row, "state": "cached"}])
    ['3 runs: 2 to run, 1 cached', 'to run: 1.0 h of one cuda: X, 8 MB on disk']
    """
    totals = Counter(row["state"] for row in rows)
    lines = [f"{len(rows)} runs: " + ", ".join(f"{number} {name}" for name, number in totals.items())]
    todo = [row for row in rows if row["state"] in ("to run", "blocked")]
    with_price = [row for row in todo if row["seconds"] is not None]
    for hardware in dict.fromkeys(row["hardware"] for row in with_price):
        group = [row for row in with_price if row["hardware"] == hardware]
        seconds, disk = sum(row["seconds"] for row in group), sum(row["bytes"] for row in group)
        is_table = any(row["price"].startswith("table") for row in group)
        note = " (updates alone, from the table of throughputs)" if is_table else ""
        lines.append(f"to run: {_time(seconds)} of one {hardware}, {_size(disk)} on disk{note}")
    if len(with_price) < len(todo):
        lines.append(f"{len(todo) - len(with_price)} runs have no price: nothing like them was measured")
    return lines


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _size(disk: int) -> str:
    return f"{disk / 1e9:.1f} GB" if disk >= 1e9 else f"{disk / 1e6:.0f} MB"
