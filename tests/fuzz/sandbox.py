"""One command line in a forked process with limits of time and memory; what it prints is captured."""

import contextlib
import io
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.registry import Step

MEMORY = 8 << 30  # bytes beyond what the forking process has mapped; a Java machine reserves several
FILE_SIZE = 1 << 30
WAITING = 6  # times its seconds of computing is what a command may take on the clock of a busy machine
BROKEN_PIPE = 120  # what Python itself exits with where the last flush fails


@dataclass(frozen=True)
class Outcome:
    """How a command line ended: its exit code (negative for a signal), and what it printed."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def text(self) -> str:
        """Everything printed."""
        return f"{self.stdout}\n{self.stderr}"

    @property
    def hung(self) -> bool:
        """Whether it ran out of its time or its memory."""
        exhausted = "MemoryError" in self.text and self.crashed
        limits = (signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL, signal.SIGXFSZ)
        return -self.code in limits or exhausted

    @property
    def crashed(self) -> bool:
        """Whether it printed a traceback or died of a signal."""
        marks = ("Traceback (most recent call last)", "BrokenPipeError", "Exception ignored")
        return self.code < 0 or any(mark in self.text for mark in marks)


def execute(step: Step, folder: Path) -> Outcome:
    """Run ``python -m bench`` with the arguments of a step, in ``folder``, and wait for its end."""
    out, err = folder.parent / f"{folder.name}.out", folder.parent / f"{folder.name}.err"
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(step, folder, out, err)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it started, a Java machine for example
    stdout, stderr = (
        path.read_bytes().decode("utf-8", "backslashreplace") if path.exists() else "" for path in (out, err)
    )
    code = os.waitstatus_to_exitcode(status)
    return Outcome(tuple(step.argv), code, stdout, stderr, time.monotonic() - begun)


def _child(step: Step, folder: Path, out: Path, err: Path) -> None:
    """Become the program, and never return."""
    code = 1
    try:
        os.setsid()
        _limit(step.seconds)
        os.chdir(folder)
        _open_outputs(step, out, err)
        for name, value in step.env.items():
            if value is None:
                os.environb.pop(name, None)
            else:
                os.environb[name] = value
        if not step.plots:
            _save_empty_pictures()
        code = _program(step)
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
    except BaseException as error:  # as the interpreter says it at its end
        os.write(2, f"Exception ignored in: <stdout>\n{type(error).__name__}\n".encode())
        code = BROKEN_PIPE
    with contextlib.suppress(BaseException):
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _program(step: Step) -> int:
    sys.argv = ["bench", *step.argv]
    try:
        runpy.run_module("bench", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _save_empty_pictures() -> None:
    """Let figures be saved as empty pictures: rendering them is most of what a small sweep costs."""
    from matplotlib.figure import Figure

    def savefig(figure: Figure, file: Any, *rest: Any, **options: Any) -> None:
        content = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>'
        if hasattr(file, "write"):
            file.write(content.decode() if isinstance(file, io.TextIOBase) else content)
        else:
            Path(file).write_bytes(content)

    Figure.savefig = savefig


def _limit(seconds: int) -> None:
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    signal.alarm(WAITING * seconds)


def _open_outputs(step: Step, out: Path, err: Path) -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    if step.stdout == "closed pipe":
        read, target = os.pipe()
        os.close(read)
        out.write_bytes(b"")
    else:
        target = os.open(out, flags)
    os.dup2(target, 1)
    os.dup2(os.open(err, flags), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    encoding = step.stdout if step.stdout not in ("file", "closed pipe") else "utf-8"
    raw_out, raw_err = (io.BufferedWriter(io.FileIO(number, "wb", closefd=False)) for number in (1, 2))
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(raw_out, encoding=encoding)
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(raw_err, encoding, "backslashreplace", line_buffering=True)
