"""What a model is working on: the current task, and how many tokens are visual.

Some methods treat tasks, or text and visual tokens, differently. Forward passes of HF's language models have no
argument for either, and ``generate`` drops arguments it does not know, so whoever runs the model sets them around the
call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

TASKS = ("vqa", "gqa", "nlvr", "caption")
"""The tasks for which a method is attached by default: those that the official code trains together."""

_task: ContextVar[str | None] = ContextVar("task", default=None)
_visual: ContextVar[int] = ContextVar("visual", default=0)


@contextmanager
def task(name: str | None) -> Iterator[None]:
    """Make ``name`` the current task inside the ``with`` block."""
    token = _task.set(name)
    try:
        yield
    finally:
        _task.reset(token)


def current_task() -> str | None:
    """Return the task of the innermost enclosing ``with task(...)``, or None outside of any."""
    return _task.get()


@contextmanager
def visual(count: int) -> Iterator[None]:
    """Declare the last ``count`` tokens of the encoder's input to be visual ones, inside the ``with`` block."""
    token = _visual.set(count)
    try:
        yield
    finally:
        _visual.reset(token)


def visual_tokens() -> int:
    """Return how many tokens at the end of the encoder's input are visual; 0 outside of any ``with visual(...)``."""
    return _visual.get()
