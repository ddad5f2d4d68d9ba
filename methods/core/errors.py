"""The error that methods raise, and suggestions for misspelt names."""

from collections.abc import Iterable, Sequence
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


def summarise_names(problem: str, names: Sequence[str], limit: int = 8) -> list[str]:
    """Return one line of an error message that lists the first ``limit`` names, or nothing where there are no names.

    >>> summarise_names("missing", ["a", "b", "c"], limit=2)
    ['3 missing: a, b and 1 more']
    """
    if not names:
        return []
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {problem}: {', '.join(names[:limit])}{more}"]
