"""Errors that a user can mend: the command line prints one line and exits with code 2."""

from collections.abc import Iterable

from methods.core.errors import did_you_mean as did_you_mean


class UsageError(Exception):
    """Bad input: a flag, file, field or name. The message names it and says how to mend it."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """Build the error for a name that is not registered, with its near matches.

    >>> str(unknown("task", "vqaa", ["vqa", "gqa"]))
    "unknown task 'vqaa'; did you mean 'vqa' or 'gqa'?"
    """
    return UsageError(f"unknown {kind} {name!r}{did_you_mean(name, choices)}")
