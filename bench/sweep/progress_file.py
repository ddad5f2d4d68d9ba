"""How far a run is: ``progress.json`` in its directory, written by its owner at every renewal of the claim."""

import sys
import time
from contextlib import suppress
from typing import Any

from bench.events import Listener, OwnershipLost, RunEvent
from bench.files import parse_json, read_bytes
from bench.record_schema import now
from bench.run_dir import RunDir
from bench.sweep.claim_files import node


class ProgressFile:
    """Receives the events of a run, passes each on to ``report``, and writes the position of the run to a file."""

    def __init__(self, run_dir: RunDir, report: Listener, job: str | None) -> None:
        self._run_dir = run_dir
        self._report = report
        self._examples = 0
        self._first_step_time: float | None = None
        self._progress: dict[str, Any] = {
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
        if event.kind == "phase":
            self._progress["phase"] = event.message
            self.write()
        if event.kind == "step":
            self._step(event)
        self._report(event)

    def _step(self, event: RunEvent) -> None:
        clock = time.monotonic()
        position = {"step": event.step, "steps": event.steps, "epoch": round(event.epoch, 2), "loss": event.loss}
        self._progress |= position
        # The first update of a process allocates and warms up: rates count from its end.
        if self._first_step_time is None:
            self._first_step_time, self._first_step = clock, event.step
            return
        self._examples += event.examples
        seconds = max(clock - self._first_step_time, 1e-9)
        self._progress["samples_per_second"] = round(self._examples / seconds, 1)
        self._progress["steps_per_second"] = (event.step - self._first_step) / seconds

    def write(self) -> None:
        """Write progress.json. A failure is ignored: a full disk is no reason to stop the run, and that a run was lost
        is noticed elsewhere.
        """
        content = self._progress | {"memory_bytes": memory(), "written": now()}
        with suppress(OSError, OwnershipLost):
            self._run_dir.write_json(self._run_dir.progress, content, durable=False)


def memory() -> int:
    """Return bytes in use: the peak of torch's allocator on a GPU, else the resident size of this process."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)  # absent while torch is being imported
    if cuda is not None and cuda.is_available():
        return int(cuda.max_memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)


def read(run_dir: RunDir) -> dict[str, Any]:
    """Return the last progress.json and ``eta_seconds``, the rest of the training at its rate; {} without a file."""
    try:
        progress = parse_json(read_bytes(run_dir.progress))
    except (OSError, ValueError):
        return {}
    if not isinstance(progress, dict):
        return {}
    numbers = (progress.get(key) for key in ("steps_per_second", "step", "steps"))
    rate, step, steps = (number if isinstance(number, int | float) else None for number in numbers)
    progress["eta_seconds"] = (steps - step) / rate if rate and step is not None and steps else None
    return progress
