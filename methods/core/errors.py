"""The error that methods raise, and suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


class MethodError(ValueError):
    """A method, option or site that does not exist or does not fit; the message says what to write instead."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error message about the unknown ``name``: near matches, or all choices if there are none.

    >>> did_you_mean("lroa", ["lora", "full"])
    "; did you mean 'lora'?"
    """
    candidates = list(choices)
    near = get_close_matches(name, candidates, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    return f"; known: {', '.join(candidates)}" if candidates else ""
