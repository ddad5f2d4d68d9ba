"""What a run reports while it works; whoever started it renders it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One piece of progress of a run.

    ``kind`` is start, phase, step, score, end, or note; ``message`` says the phase, the scores, the cause of a failure,
    or what else a person should know.
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
