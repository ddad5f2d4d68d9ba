"""What a model is working on: the current task, and how many tokens are visual.

Some methods treat tasks, or text and visual tokens, differently. Forward passes of HF's language models have no
argument for either, and ``generate`` drops arguments it does not know, so whoever runs the model sets them around the
call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TASKS = ("vqa", "gqa", "nlvr", "caption")
"""The tasks for which a method is attached by default: those that the official code trains together."""

_task: ContextVar[str | None] = ContextVar("task", default=None)
_visual: ContextVar[int] = ContextVar("visual", default=0)
_visual_mask: ContextVar["Tensor | None"] = ContextVar("visual mask", default=None)


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
def visual(count: int, mask: "Tensor | None" = None) -> Iterator[None]:
    """Declare the last ``count`` tokens of the encoder's input to be visual ones, inside the ``with`` block.

    ``mask``, ``b count``, is 0 where one of them is padding that must not be attended to; None where there is none.
    """
    tokens = _visual.set(count), _visual_mask.set(mask)
    try:
        yield
    finally:
        _visual.reset(tokens[0])
        _visual_mask.reset(tokens[1])


def visual_tokens() -> int:
    """Return how many tokens at the end of the encoder's input are visual; 0 outside of any ``with visual(...)``."""
    return _visual.get()


def visual_mask(tokens: "Tensor", like: "Tensor") -> "Tensor":
    """Return the mask ``b v`` of visual tokens ``b v d``, in the type of the mask ``like``: 0 for padding, 1 for the
    others, and for all where no padding was declared."""
    mask = _visual_mask.get()
    if mask is None or not tokens.shape[1]:
        return like.new_ones(tokens.shape[:2])
    return mask.to(like.dtype)
