"""Writing files so that a crash or a second process never leaves a part of one, and reading JSON lines back.

Drafts are ordinary new files beside the target, so the finished file has the permissions that the umask gives.
"""

import errno
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bench.errors import UsageError

DRAFT = re.compile(r"\..+\.([0-9a-f]{12}|[0-9]{1,10})", re.DOTALL)


class UnreadableFile(UsageError):
    """A file of a run directory that this process cannot read; the message names it and says why."""


class CorruptFile(UnreadableFile):
    """A record, weight, score or prediction file that cannot be what was written; the message names it."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = True, drafts: Path | None = None) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing; other processes see the old content until the block ends, then all of the new one.

    The content goes to a draft file, in the same folder or in ``drafts``, which is renamed at the end. With ``durable``
    it is flushed to the disk before that, so that it also survives a crash of the machine. If the block raises, the
    target is unchanged.
    """
    draft = draft_of(path, drafts)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(path: Path, drafts: Path | None = None) -> Path:
    """Return a path for a draft of a file, which no process of any host uses: beside the file, or in ``drafts``."""
    return (drafts or path.parent) / f".{path.name}.{uuid.uuid4().hex[:12]}"


def is_draft(path: Path) -> bool:
    """Return whether a path is one that :func:`draft_of` makes, or the draft of a file of weights."""
    return DRAFT.fullmatch(path.name) is not None


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically."""
    with atomic_write(path) as file:
        file.write(content)


def create_once(path: Path, content: bytes, *, durable: bool = True, drafts: Path | None = None) -> bool:
    """Create a file with all its content in one step; return False where it exists already, made by whomever.

    ``durable`` and ``drafts`` are those of :func:`atomic_write`.
    """
    draft = draft_of(path, drafts)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if drafts or draft.exists():
                raise
            return False  # whoever made the file has cleaned up
    finally:
        draft.unlink(missing_ok=True)
    return True


def create_with(path: Path, content: bytes) -> None:
    """Write a file for a user; one that is there already must have the same content.

    Raises:
        UsageError: it is there with other content, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not create_once(path, content) and read_bytes(path) != content:
            raise UsageError(f"{path}: is there already, with other content; move it away, or choose another name")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); choose another name") from error


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Replace a file by indented JSON atomically; ``durable`` is that of :func:`atomic_write`."""
    with atomic_write(path, durable=durable) as file:
        file.write(json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """Return indented JSON with a newline at its end; a path that is no UTF-8 has its bytes escaped."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", errors="backslashreplace")


def require_regular_file(path: Path) -> None:
    """Raise OSError unless there is a regular file, possibly behind links; opening anything else may never return."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file; OSError where it is a folder, a pipe, a loop of links or not there."""
    require_regular_file(path)
    return path.read_bytes()


def parse_json(content: bytes | str) -> Any:
    """Parse JSON of any origin; ValueError for everything that is wrong with it, nesting that is too deep included."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_lines(path: Path, numbers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a missing file has none.

    What is not such a line is dropped, because a crash tears lines: what is no object, or has no finite number under
    one of the keys ``numbers``. Lines end at a newline only: texts inside the JSON may contain the other separators of
    ``str.splitlines``.
    """
    rows: list[dict[str, Any]] = []
    with suppress(OSError):
        for line in read_bytes(path).split(b"\n"):
            with suppress(ValueError):
                row = parse_json(line.decode("utf-8", errors="replace"))
                if isinstance(row, dict) and all(_is_number(row.get(key)) for key in numbers):
                    rows.append(row)
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@contextmanager
def explain_write_errors(path: Path, flag: str = "--results") -> Iterator[None]:
    """Turn an OSError while writing (read-only folder, full disk) into a UsageError that names ``path``.

    ``flag`` is the command-line option with which the user chooses another folder.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{path}: cannot be written ({reason}); give another folder with {flag}") from error


def one_line(error: BaseException) -> str:
    """Return the first 300 characters of an error's message with all white space folded into single spaces."""
    return " ".join(str(error).split())[:300]


def not_permitted(path: Path) -> str:
    """Say that this process may not read a file, and whose it is."""
    owner = ""
    for place in (path, *path.parents):  # where not even the file can be looked at, the folder around it is closed
        try:
            owner = f" {place.owner()}"
            break
        except (OSError, KeyError):
            continue
    return f"is not permitted to be read; ask its owner{owner} for permission (chmod g+rX)"


def require_file(path: Path, advice: str, noun: str = "file") -> os.stat_result:
    """Return the status of a regular file, following links; nothing is opened, so that a FIFO cannot block.

    Args:
        path: the file.
        advice: what the error tells the user to do.
        noun: what the error calls the file.

    Raises:
        UsageError: it is missing, cannot be reached, or is a folder, a FIFO, a device or a socket.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        link = " (it is a link that leads nowhere)" if path.is_symlink() else ""
        raise UsageError(f"{path}: no such {noun}{link}; {advice}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {advice}") from None
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise UsageError(f"{path}: is {kind}, expected a {noun}; {advice}")
    return status


def read_text(path: Path, advice: str) -> str:
    """Return the content of a UTF-8 file, without the byte order mark that some editors put at its beginning.

    Raises:
        UsageError: what :func:`require_file` raises, or the file is in another encoding.
    """
    require_file(path, advice)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8, or {advice}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from None


def parse_named_json(text: str, name: object) -> Any:
    """Parse JSON of a user's file; ``name`` is what the error calls the place of the text.

    Raises:
        UsageError: it is no JSON, is nested too deeply, or has an integer of thousands of digits.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{name} is not valid JSON ({error}); fetch the file again") from None
