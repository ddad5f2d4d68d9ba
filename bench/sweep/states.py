"""What has become of a run: read off its directory, never stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.config import Run
from bench.records import Corrupt, Folder
from bench.sweep.claims import is_claimed

Name = Literal["done", "failed", "running", "interrupted", "corrupt", "missing"]


@dataclass(frozen=True)
class State:
    """The state of a run and a word on it: the cause of a failure, or what is corrupt."""

    name: Name
    note: str = ""

    def settled(self, retry_failed: bool) -> bool:
        """Whether a sweep leaves the run alone: it is done, has failed and is not retried, or is another's."""
        return self.name in ("done", "running") or (self.name == "failed" and not retry_failed)


def state(results: Path, run: Run) -> State:
    """Return the state of a run. One that was begun and has neither a record nor a living worker was interrupted."""
    folder = Folder(results, run.id)
    try:
        record = folder.read()
    except Corrupt as fault:
        return State("corrupt", str(fault))
    if record is not None:
        return State(record.status, record.cause or "")
    if is_claimed(folder.claim):
        return State("running")
    return State("interrupted" if folder.run.exists() else "missing")
