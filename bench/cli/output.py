"""``--verbose`` and ``--log-file``: what every verb says of what it does, to people and into a file."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bench.errors import UsageError
from bench.files import explain_write_errors

LOG = "bench"  # the logger of what a live display keeps from the stream


def add(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("messages")
    group.add_argument(
        "--verbose", "-v", action="store_true", help="also what libraries say, times, and the traceback of an error"
    )
    group.add_argument(
        "--log-file", type=Path, metavar="FILE", help="append the command, and all messages with their time, to a file"
    )


class LoggedStream:
    """A stream of messages whose lines also go, with their time, to a log; what draws on a terminal does not."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream = stream
        self._log = log
        self._at_line_start = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text to both; the log is best effort, because a full disk must not end what it is about."""
        if "\x1b" not in text:
            self.note(text)
        return self._stream.write(text)

    def note(self, text: str) -> None:
        """Write a text to the log alone."""
        for line in text.splitlines(keepends=True):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S ") if self._at_line_start else ""
            self._at_line_start = line.endswith("\n")
            try:
                self._log.write(f"{stamp}{line}")
                self._log.flush()
            except (OSError, ValueError):
                return


@contextmanager
def messages(log_file: Path | None, verbose: bool, command: str) -> Iterator[None]:
    """Let messages go where the options want them, in the block.

    Raises:
        UsageError: the log cannot be written.
    """
    begun = time.monotonic()
    logger = logging.getLogger(LOG)
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    stream, before = None, sys.stderr
    if log_file is not None:
        stream = LoggedStream(sys.stderr, _opened(log_file))
        stream.note(f"$ {command}\n")
        handler = logging.StreamHandler(_Noted(stream))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        sys.stderr = stream
    try:
        yield
    finally:
        if verbose:
            print(f"took {time.monotonic() - begun:.1f} s", file=sys.stderr)
        if stream is not None:
            sys.stderr = before
            logger.removeHandler(handler)
            logger.propagate = True


class _Noted:
    """The log of a stream, as a stream."""

    def __init__(self, stream: LoggedStream) -> None:
        self.write = stream.note

    def flush(self) -> None:
        """Do nothing: every line is flushed."""


def _opened(path: Path) -> TextIO:
    if path.exists() and not path.is_file():
        raise UsageError(f"--log-file {path}: is no file; give another one")
    with explain_write_errors(path, "--log-file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), "w", encoding="utf-8", errors="replace"
        )
