"""The training curve of a run: at most about 100 points, however many updates there are."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import one_line, read_json_lines
from bench.run_dir import RunDir

if TYPE_CHECKING:
    import pandas as pd

POINTS = 100


class TrainingCurve:
    """Writes a point to curve.jsonl after every stretch of updates.

    A point is ``{"step", "loss", "lr", "seconds"}``: the last update, the mean loss over the stretch, the learning
    rate of the last update, and the seconds since training began in this process.
    """

    def __init__(self, folder: RunDir, steps: int) -> None:
        self._folder = folder
        self._every = max(1, steps // POINTS)
        self._steps = steps
        self._losses: list[float] = []
        self._begun = time.monotonic()

    def add(self, step: int, point: dict[str, Any]) -> None:
        """Take the loss and learning rate of one update; ``step`` counts from 1."""
        self._losses.append(point["loss"])
        if step % self._every == 0 or step == self._steps:
            mean = sum(self._losses) / len(self._losses)
            seconds = round(time.monotonic() - self._begun, 3)
            self._folder.append(self._folder.curve, {"step": step, "loss": mean, "lr": point["lr"], "seconds": seconds})
            self._losses.clear()


def read_curves(results: Path, run_ids: Iterable[str]) -> "tuple[dict[str, pd.DataFrame], list[str]]":
    """Return the training curves of runs that have one, a row per point, and a line for each that is unreadable.

    Where a run was validated on the way there are rows with the mean score over its tasks in ``validation``.
    """
    import pandas as pd

    curves, unreadable = {}, []
    for run_id in run_ids:
        folder = RunDir(results, run_id)
        points = []
        for path in (folder.curve, folder.validation):
            try:
                if path.exists() and not path.is_file():
                    raise OSError("it is no file")
                rows = read_json_lines(path)
            except (OSError, RecursionError) as error:
                unreadable.append(f"training curve left out: {path} ({one_line(error)})")
                continue
            if path == folder.validation:
                rows = [{"step": row.get("step"), "validation": row.get("mean")} for row in rows]
            points += rows
        if points:
            curves[run_id] = pd.DataFrame(points)
    return curves, unreadable


def load_curves(frame: "pd.DataFrame", results: str | Path = "results") -> "dict[str, pd.DataFrame]":
    """Return the training curves of the runs of a frame of results by their ids, with the columns ``step, loss, lr,
    seconds`` and, for runs that are validated on the way, ``validation``; a run without a readable curve is left out.
    """
    return read_curves(Path(results), dict.fromkeys(frame["run_id"]))[0]
