"""Errors of the methods room, and the one way to say "did you mean"."""

from collections.abc import Iterable, Sequence
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


def summarise_names(problem: str, names: Sequence[str], limit: int = 8) -> list[str]:
    """Return one line of an error message that lists the first ``limit`` names, or nothing where there are no names.

    >>> summarise_names("missing", ["a", "b", "c"], limit=2)
    ['3 missing: a, b and 1 more']
    """
    if not names:
        return []
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {problem}: {', '.join(names[:limit])}{more}"]
