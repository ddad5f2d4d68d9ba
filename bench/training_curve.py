"""The training curve of a run."""

import time
from typing import Any

from bench.run_dir import RunDir

POINTS = 100  # whatever the number of updates


class TrainingCurve:
    """Writes the mean loss of every stretch of updates to curve.jsonl."""

    def __init__(self, folder: RunDir, steps: int) -> None:
        self._folder = folder
        self._every = max(1, steps // POINTS)
        self._steps = steps
        self._losses: list[float] = []
        self._begun = time.monotonic()

    def add(self, step: int, point: dict[str, Any]) -> None:
        """Take one update's point."""
        self._losses.append(point["loss"])
        if step % self._every == 0 or step == self._steps:
            mean = sum(self._losses) / len(self._losses)
            seconds = round(time.monotonic() - self._begun, 3)
            self._folder.append(self._folder.curve, {"step": step, "loss": mean, "lr": point["lr"], "seconds": seconds})
            self._losses.clear()
