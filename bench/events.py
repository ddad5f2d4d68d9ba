"""What a run reports while it works; whoever started it renders it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One piece of progress of a run.

    ``kind`` is start, phase, step, score, or end; ``message`` says the phase, the scores, or the cause of a failure.
    """

    kind: str
    run_id: str
    message: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None


Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Report to nobody."""
