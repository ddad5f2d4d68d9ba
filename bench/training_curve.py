"""The training curve of a run: at most about 100 points, however many updates there are."""

import time
from typing import Any

from bench.run_dir import RunDir

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
