"""What a run tells whoever started it, and what it is told while it works."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RunEvent:
    """One piece of progress of a run.

    ``kind`` is start, phase, step, score, end, or note; ``message`` says the phase, the scores, the cause of a failure,
    or what else a person should know. At a step, ``epoch`` counts passes over the data, ``examples`` those of this
    update.
    """

    kind: str
    run_id: str
    message: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    epoch: float = 0.0
    examples: int = 0


Report = Callable[[RunEvent], None]


def silent(event: RunEvent) -> None:
    """Report to nobody."""


class OwnershipLost(KeyboardInterrupt):
    """The run is no longer ours: its owner was thought dead, and another process took over. Nothing more is written."""


class RunHold:
    """A run's hold on its folder: this one is for good, that of a sweep is a lease (:mod:`bench.sweep.claims`).

    ``stop`` is why the run is to make a checkpoint and end, if it is.
    """

    stop: str | None = None

    def check(self) -> None:
        """Raise :class:`OwnershipLost` where the folder has become another process's."""
