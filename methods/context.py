"""The task a model is working on, for methods that hold one set of weights per task.

Forward passes of the language model take no task argument, and generation drops unknown ones; whoever runs the model
says it around the call instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_task: ContextVar[str | None] = ContextVar("task", default=None)


@contextmanager
def task(name: str) -> Iterator[None]:
    """Make ``name`` the current task inside the ``with`` block."""
    token = _task.set(name)
    try:
        yield
    finally:
        _task.reset(token)


def current() -> str | None:
    """The task of the innermost enclosing ``with task(...)``, or None outside of any."""
    return _task.get()
