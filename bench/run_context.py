"""What all stages of a run share: its configuration and folder, the phase it is in, and whether it is to stop."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.config import Execution, Run
from bench.environment import environment
from bench.events import Listener, RunEvent, RunHold, silent
from bench.files import read_json_lines
from bench.record_schema import now
from bench.run_dir import RunDir

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # Slurm sends USR2 before preemption and time limit


class RunContext:
    """A run in progress.

    Attributes:
        run, execution, folder, listener, hold: what is run, where, into which directory, who receives the events, and
            the claim on the directory.
        phase, step: where it is, for the record of a failure.
        begun: seconds of ``time.monotonic`` at the start.
        segment: the piece of training that this process does.
        notes: what the record says about the course of the run.
    """

    def __init__(
        self,
        run: Run,
        execution: Execution,
        folder: RunDir,
        listener: Listener = silent,
        hold: RunHold | None = None,
    ) -> None:
        self.run = run
        self.execution = execution
        self.folder = folder
        self.listener = listener
        self.hold = hold or RunHold()
        self.phase = "set-up"
        self.step = 0
        self.begun = time.monotonic()
        self.segment = Segment(folder)
        self.notes: list[str] = []
        self._signal: str | None = None

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.listener(RunEvent("phase", self.run.id, phase))

    def note(self, text: str) -> None:
        """Report something that a reader of the scores should know, and keep it for the record."""
        self.notes.append(text)
        self.listener(RunEvent("note", self.run.id, f"{self.run.id}: {text}"))

    def stop_reason(self) -> str | None:
        """Return why the run is to stop: a signal, or what its hold says; None where it is to go on."""
        return self._signal or self.hold.stop

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt with the reason where the run is to stop."""
        if reason := self.stop_reason():
            raise KeyboardInterrupt(reason)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Let signals stop the run: at its next update while it trains, which then saves a checkpoint; else at once.

        Does nothing outside of the main thread, where Python cannot handle signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name
        if self.phase != "train":
            raise KeyboardInterrupt(self._signal)


class Segment:
    """The piece of training that one process does, from a checkpoint or from the start; a line of segments.jsonl."""

    def __init__(self, folder: RunDir) -> None:
        self._folder = folder
        self.start_step = 0
        self._started = now()
        self._ended = False

    def resume(self, step: int) -> None:
        """Begin at a checkpoint. Where its process was killed before it could write its segment, write it now."""
        self.start_step = step
        earlier = read_json_lines(self._folder.segments, ("end_step",))
        last_step = earlier[-1]["end_step"] if earlier else 0
        if last_step < step:
            lost = {"start_step": last_step, "end_step": step, "host": None, "job_id": None, "start": None, "end": None}
            self._folder.append(self._folder.segments, {**lost, "reason": "killed"})

    def end(self, step: int, reason: str) -> None:
        """Write the segment; a second call does nothing, so that the first reason stands."""
        if self._ended:
            return
        self._ended = True
        machine = environment()
        self._folder.append(
            self._folder.segments,
            {
                "start_step": self.start_step,
                "end_step": step,
                "host": machine["host"],
                "job_id": machine["job_id"],
                "start": self._started,
                "end": now(),
                "reason": reason,
            },
        )
