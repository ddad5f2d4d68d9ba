"""Progress of a sweep: a live line on a terminal, one line per event in a log."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

from bench.events import RunEvent

TRAINING_PART = 0.85  # of a run's time; the rest is set-up and evaluation. Only the estimate of the time left uses it.


class Progress:
    """Receives the events of runs, prints them, and estimates the time left."""

    def __init__(self, total: int, *, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.total = total
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._begun = time.monotonic()
        self._started: dict[str, float] = {}
        self._part: dict[str, float] = {}
        self._printed: dict[str, int] = {}
        self._finished: set[str] = set()
        self._live: Any = None

    def __enter__(self) -> "Progress":
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            self._live = Live(Text(), console=Console(file=self._stream), refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def __call__(self, event: RunEvent) -> None:
        handler = getattr(self, f"_on_{event.kind}", None)
        if handler is not None:
            handler(event)

    @property
    def finished(self) -> int:
        """The number of runs that have ended; one that is tried again has not."""
        return len(self._finished)

    def _on_start(self, event: RunEvent) -> None:
        self._finished.discard(event.run_id)
        self._started[event.run_id] = time.monotonic()
        self._part[event.run_id] = 0.0
        self._say(f"start  {event.run_id}")

    def _on_step(self, event: RunEvent) -> None:
        self._part[event.run_id] = TRAINING_PART * event.step / event.steps
        text = f"{event.run_id}  step {event.step}/{event.steps}  loss {event.loss:.3f}"
        if self._live is not None:
            from rich.text import Text

            with suppress(OSError):
                self._live.update(Text(f"{self._count()}  {text}  {self.left()}"))
        elif event.step * 4 // event.steps > self._printed.get(event.run_id, 0) and event.step < event.steps:
            self._printed[event.run_id] = event.step * 4 // event.steps
            self._say(f"step   {text}  {self.left()}")

    def _on_score(self, event: RunEvent) -> None:
        self._say(f"score  {event.run_id}  {event.message}")

    def _on_end(self, event: RunEvent) -> None:
        if event.run_id in self._part and not event.message.startswith("interrupted"):
            del self._part[event.run_id]
            self._finished.add(event.run_id)
        seconds = time.monotonic() - self._started.get(event.run_id, time.monotonic())
        self._say(f"end    {event.run_id}  {event.message}  {seconds:.0f} s  {self.left()}")

    def _on_note(self, event: RunEvent) -> None:
        self._say(f"note   {event.message}")

    def left(self) -> str:
        """Return an estimate of the time left, or "" before enough is done to estimate it.

        The rate of work so far, extrapolated to the rest: right for runs of similar cost.
        """
        done = self.finished + sum(self._part.values())
        if self.total == 0 or done < 0.05:
            return ""
        seconds = (time.monotonic() - self._begun) / done * max(0.0, self.total - done)
        return f"about {int(seconds // 60)} min {int(seconds % 60):02d} s left"

    def _count(self) -> str:
        return f"[{self.finished + 1}/{self.total}]" if self.finished < self.total else f"[{self.total}/{self.total}]"

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        line = f"{time.strftime('%H:%M:%S')} [{self.finished}/{self.total}] {text.rstrip()}"
        with suppress(OSError):  # whoever reads along may have gone; the runs go on
            if self._live is not None:
                self._live.console.print(line, markup=False, highlight=False)
            else:
                print(line, file=self._stream, flush=True)
