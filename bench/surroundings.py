"""Faults of the surroundings: what keeps a run from going on without being a result of it.

A full disk, a missing permission, an unreadable file, a device that does not work, memory that is lacking outside of
training, a program that is not installed: such a run is interrupted, not failed, and goes on where it was.
"""

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.errors import UsageError
from bench.files import one_line
from bench.record_schema import classify
from bench.states import SURROUNDINGS, SurroundingName

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # at the end of the messages of safetensors and tokenizers
#: what CUDA and its driver say of a device that nothing can be computed on
BROKEN_DEVICE = re.compile(
    "ECC error|no CUDA-capable device|busy or unavailable|invalid device ordinal|hardware stack error|system not yet "
    "initialized|driver version is insufficient|driver shutting down|GPU is lost|unknown error|operation not supported",
    re.IGNORECASE,
)


class SurroundingsFault(UsageError):
    """What a run needs is not there; the message says what mends it. ``name`` is its entry in SURROUNDINGS."""

    def __init__(self, name: SurroundingName, detail: str) -> None:
        info = SURROUNDINGS[name]
        super().__init__(f"{info.text}: {info.mend}, and the same command goes on from where it was ({detail})")
        self.name = name


def explain(error: BaseException) -> SurroundingsFault | None:
    """Return what an exception says about the surroundings of a run; None where the run itself raised it.

    An exception is judged by what it was raised from, too: libraries turn a full disk into errors of their own. That
    memory is lacking is a fault of the surroundings only where :func:`outside_of_training` says so. Bad input, a
    UsageError, is to be mended outside of the run as well.
    """
    for cause in _chain(error):
        if isinstance(cause, SurroundingsFault):
            return cause
        if name := _name(cause):
            return SurroundingsFault(name, _detail(error if isinstance(error, UsageError) else cause))
    return SurroundingsFault("input", one_line(error)) if isinstance(error, UsageError) else None


@contextmanager
def outside_of_training(what: str, broken: str = "") -> Iterator[None]:
    """Say of a block that it is not training: lack of memory in it is a fault of the surroundings.

    Args:
        what: what the block does, for the message.
        broken: a regular expression: a RuntimeError with such a message is a fault of the device.

    Raises:
        SurroundingsFault: memory was lacking, or the device is broken.
    """
    try:
        yield
    except Exception as error:
        if classify(error) == "oom":
            raise SurroundingsFault("memory", f"{what}: {one_line(error)}") from error
        if broken and isinstance(error, RuntimeError) and re.search(broken, str(error)):
            raise SurroundingsFault("device", f"{what}: {one_line(error)}") from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _name(error: BaseException) -> SurroundingName | None:
    if isinstance(error, subprocess.SubprocessError | ModuleNotFoundError) and not isinstance(
        error, subprocess.TimeoutExpired
    ):
        return "program"
    number = error.errno if isinstance(error, OSError) else None
    if number is None and not isinstance(error, OSError) and (match := RUST_ERROR.search(str(error))):
        number = int(match[1])
    if number in DISK:
        return "disk"
    if number in PERMISSION:
        return "permission"
    if number is not None or (isinstance(error, OSError) and not isinstance(error, TimeoutError)):
        return "file"
    return "device" if isinstance(error, RuntimeError) and BROKEN_DEVICE.search(str(error)) else None


def _detail(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        return f"{os.strerror(error.errno)}: {os.fsdecode(error.filename)}"
    return one_line(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {one_line(error)}"
