"""Messages between a run and its surroundings: the events that it sends, and the hold that can stop it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunEvent:
    """One event of a run.

    Attributes:
        kind: start, phase, step, score, end, or note.
        run_id: the run, "" for a note that concerns no single one.
        message: the phase, the task, the score, the cause of a failure, or the text of a note.
        step, steps: the update that was made, and how many there will be.
        loss: of this update.
        epoch: passes over the data so far.
        examples: number of examples of this update.
    """

    kind: str
    run_id: str
    message: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    epoch: float = 0.0
    examples: int = 0


Listener = Callable[[RunEvent], None]


def silent(event: RunEvent) -> None:
    """Ignore the event."""


class OwnershipLost(KeyboardInterrupt):
    """Another process has taken the run over, because its owner was thought dead. The owner must write nothing more."""


class RunHold:
    """The right to write into a run's directory. This one never ends; in a sweep it is a lease (bench.sweep.claims).

    Attributes:
        stop: why the run is to save a checkpoint and end, None where it is to go on.
        drafts: a folder for drafts that is there only as long as the directory is this process's; None for drafts
            beside the files themselves (:mod:`bench.guarded_folder`).
    """

    stop: str | None = None
    drafts: Path | None = None

    def check(self) -> None:
        """Raise :class:`OwnershipLost` where the directory is known to have become another process's."""

    def verify(self) -> None:
        """Look now, and raise :class:`OwnershipLost` where the directory has become another process's."""
