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


def near_matches(name: str, choices: Iterable[str]) -> str:
    """Return the near matches of a name as :func:`did_you_mean` does, but "" where nothing is near: for names of which
    there may be thousands.

    >>> near_matches("lroa", ["lora", "full"]), near_matches("xyz", ["lora", "full"])
    ("; did you mean 'lora'?", '')
    """
    hint = did_you_mean(name, choices)
    return hint if hint.startswith("; did you mean") else ""
