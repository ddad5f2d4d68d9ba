"""What has become of a run: read off its directory, never stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.config import Run
from bench.files import CorruptFile
from bench.run_dir import RunDir
from bench.sweep import attempts
from bench.sweep.claims import ClaimObserver

Name = Literal["done", "failed", "parked", "cancelled", "running", "interrupted", "corrupt", "missing"]


@dataclass(frozen=True)
class State:
    """The state of a run and a word on it: the cause of a failure, what is corrupt, why it was interrupted."""

    name: Name
    note: str = ""

    def settled(self, again: bool = False) -> bool:
        """Whether a sweep leaves the run alone: done, cancelled, failed; with ``again`` failures are tried until they
        are parked."""
        if self.name == "failed":
            return not again or self.note in attempts.FINAL
        return self.name in ("done", "parked", "cancelled")


def state(results: Path, run: Run, observer: ClaimObserver | None = None) -> State:
    """Return the state of a run.

    An ``observer`` that has looked before can tell a dead owner on another host from a living one.
    """
    folder = RunDir(results, run.id)
    found = outcome(folder)
    if found.name != "done" and (observer or ClaimObserver()).is_held(folder.claim):
        return State("running")
    return found


def outcome(folder: RunDir) -> State:
    """Return the state of a run that nobody works on. One that was begun and has no record was interrupted."""
    try:
        record = folder.read()
    except CorruptFile as fault:
        return State("corrupt", str(fault))
    if record is not None and record.status == "done":
        return State("done")
    if folder.cancelled.exists():
        return State("cancelled")
    tried = attempts.read(folder)
    if record is not None:
        return State("parked" if attempts.parked(record, tried) else "failed", record.cause or "")
    if tried:
        return State("interrupted", tried[-1].reason or "killed")
    return State("interrupted" if folder.run.exists() else "missing")
