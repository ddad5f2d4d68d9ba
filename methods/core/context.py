"""What a model is working on: the task, and where visual tokens stand, for methods that treat either apart.

Forward passes of the language model take no such arguments, and generation drops unknown ones; whoever runs the model
says it around the call instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

TASKS = ("vqa", "gqa", "nlvr", "caption")
"""The tasks of a model where nothing else is said: those that the official code trains together."""

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


def current() -> str | None:
    """The task of the innermost enclosing ``with task(...)``, or None outside of any."""
    return _task.get()


@contextmanager
def visual(count: int) -> Iterator[None]:
    """Say that the last ``count`` tokens in the encoder are visual ones, inside the ``with`` block."""
    token = _visual.set(count)
    try:
        yield
    finally:
        _visual.reset(token)


def visual_tokens() -> int:
    """How many tokens at the end of the encoder's input are visual; 0 outside of any ``with visual(...)``."""
    return _visual.get()
