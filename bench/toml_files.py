"""Reading TOML: the files of recipes, sweeps, deltas and Slurm profiles, and the values of settings.

Everything that a user may write wrongly is one UsageError that names the file. A byte order mark and carriage returns
are harmless, so they are read over.
"""

import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.errors import UsageError, near_matches

LARGEST_FILE = 10_000_000  # bytes; a file by hand has thousands
MESSAGE_LENGTH = 80  # characters of a user's value that a message repeats


def read_toml(path: Path, kind: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """Return the content of a TOML file.

    Args:
        path: the file; ``~`` stands for the home directory.
        kind: what the file is, for messages: "recipe", "sweep file", "profile".
        others: names that may be meant where there is no such file, besides the TOML files of its folder.

    Raises:
        UsageError: there is no such file, it is not a regular file that can be read, it is not UTF-8, or it is not
            TOML.
    """
    path = expand_home(path)
    name = shortened(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UsageError(f"{name}: is {what}; expected a {kind} in TOML")
        if status.st_size > LARGEST_FILE:
            raise UsageError(f"{name}: has {status.st_size:,} bytes, too many for a {kind}")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{name}: no such {kind}{_near(path, others)}") from None
    except (OSError, ValueError) as error:  # a loop, a name that is too long or has a NUL, no permission
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{name}: cannot be read as a {kind} ({reason})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 (byte 0x{content[error.start]:02x} in line {line})"
        raise UsageError(f"{name}: {message}; save this {kind} as UTF-8") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{name}: not a {kind}: its values are nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: not valid TOML ({shortened(error, 200)})") from None
    except ValueError as error:  # an integer of thousands of digits
        raise UsageError(f"{name}: a value cannot be read ({shortened(str(error).partition(';')[0], 200)})") from None


def parse_value(text: str) -> Any:
    """Return the value that a text means as TOML, or the text itself where it is no TOML.

    >>> parse_value("1e-3"), parse_value("[1, 2]"), parse_value("small")
    (0.001, [1, 2], 'small')

    Raises:
        UsageError: it has control characters such as a line break, is nested too deep, or is an integer of thousands of
            digits.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UsageError(f"{shortened(repr(text))}: a value has no line breaks or other control characters")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except RecursionError:
        raise UsageError(f"{shortened(repr(text))}: nested too deep") from None
    except ValueError:
        raise UsageError(f"{shortened(repr(text))}: a number of too many digits") from None


def expand_home(path: Path | str) -> Path:
    """Return a path whose ``~`` or ``~user`` at the beginning is the home directory.

    Raises:
        UsageError: there is no such home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{shortened(path)}: no home directory is known for its '~'") from None


def shortened(value: object, length: int = MESSAGE_LENGTH) -> str:
    """Return a user's value as a message repeats it: in one line, cut in the middle where it is long.

    >>> shortened("x" * 100, 20)
    'xxxxxxxxxxx ... xxxx'
    """
    text = " ".join(str(value).split())
    end = length // 5
    return text if len(text) <= length else f"{text[: length - end - 5]} ... {text[-end:]}"


def _near(path: Path, others: Iterable[str]) -> str:
    try:
        siblings = sorted(entry for entry in os.listdir(path.parent) if entry.endswith(".toml"))
    except OSError:
        siblings = []
    return near_matches(path.name, siblings) or near_matches(path.stem, others)
