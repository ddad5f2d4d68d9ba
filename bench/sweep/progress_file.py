"""How far a run is: ``progress.json`` in its folder, written by its owner at every beat of the claim."""

import json
import sys
import time
from contextlib import suppress
from typing import Any

from bench.events import Listener, RunEvent
from bench.files import write_json
from bench.record_schema import now
from bench.run_dir import RunDir
from bench.sweep.claims import node


class ProgressFile:
    """Takes the events of a run, passes them on, and writes down where it stands."""

    def __init__(self, folder: RunDir, report: Listener, job: str | None) -> None:
        self._folder = folder
        self._report = report
        self._examples = 0
        self._training: float | None = None
        self._said: dict[str, Any] = {
            "phase": "set-up",
            "step": None,
            "steps": None,
            "epoch": None,
            "loss": None,
            "samples_per_second": None,
            "steps_per_second": None,
            "node": node(),
            "job": job,
        }

    def __call__(self, event: RunEvent) -> None:
        """Take one event."""
        if event.kind == "phase":
            self._said["phase"] = event.message
            self.write()
        if event.kind == "step":
            self._step(event)
        self._report(event)

    def _step(self, event: RunEvent) -> None:
        clock = time.monotonic()
        self._said |= {"step": event.step, "steps": event.steps, "epoch": round(event.epoch, 2), "loss": event.loss}
        if self._training is None:  # the first update of this process is not measured: it warms up
            self._training, self._first = clock, event.step
            return
        self._examples += event.examples
        seconds = max(clock - self._training, 1e-9)
        self._said["samples_per_second"] = round(self._examples / seconds, 1)
        self._said["steps_per_second"] = (event.step - self._first) / seconds

    def write(self) -> None:
        """Write progress.json; a full disk is no reason to stop."""
        with suppress(OSError):
            write_json(self._folder.progress, self._said | {"memory_bytes": memory(), "written": now()}, durable=False)


def memory() -> int:
    """Return bytes in use: the peak of torch's allocator on a GPU, else the resident size of this process."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)  # none while torch is being imported
    if cuda is not None and cuda.is_available():
        return int(cuda.max_memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)


def read(folder: RunDir) -> dict[str, Any]:
    """Return what a run's owner wrote last, with the seconds that the rest of the training takes; {} for nothing."""
    try:
        said = dict(json.loads(folder.progress.read_bytes()))
    except (OSError, ValueError):
        return {}
    rate, step, steps = (said.get(key) for key in ("steps_per_second", "step", "steps"))
    said["eta_seconds"] = (steps - step) / rate if rate and step is not None and steps else None
    return said
