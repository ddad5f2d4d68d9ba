"""Errors of the methods room, and the one way to say "did you mean"."""

from collections.abc import Iterable
from difflib import get_close_matches


class MethodError(ValueError):
    """A method, override or site that cannot be had; the message says what to write instead."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'a' or 'b'?"``, or the whole list of choices where nothing is near.

    >>> did_you_mean("lroa", ["lora", "full"])
    "; did you mean 'lora'?"
    """
    known = list(choices)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    return f"; known: {', '.join(known)}" if known else ""
