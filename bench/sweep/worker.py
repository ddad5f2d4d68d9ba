"""What a worker process or a job of Slurm executes: ``python -m bench work --pack FILE``, with plain data in the file.

A worker is told to stop by a signal: it makes a checkpoint and ends with an exit code that says whether it wants to be
started again.
"""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

from bench.config import Execution, FrozenModel, Run, validated
from bench.errors import UsageError
from bench.files import write_json
from bench.states import RETRY_POLICIES, RetryName

REQUEUE = 75  # exit code of a worker that made its checkpoint and wants to go on (EX_TEMPFAIL of sysexits.h)
TERMINATED = 128 + signal.SIGTERM
LEFT_OPEN = 69  # exit code of a worker that left runs open that their surroundings keep from going on (EX_UNAVAILABLE)


class Pack(FrozenModel):
    """The contents of a pack file: runs for one process to work through, and how.

    Attributes:
        runs: the runs; those that another living process has claimed are passed over.
        execution: device, threads and data roots.
        results: the results folder, absolute.
        retry: the name of the policy for failed runs.
    """

    runs: tuple[Run, ...]
    execution: Execution
    results: Path
    retry: RetryName

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json", by_alias=True))

    @classmethod
    def read(cls, path: Path) -> "Pack":
        """Read a pack file.

        Raises:
            UsageError: there is no such file, or it is not a pack.
        """
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"--pack {path}: cannot be read ({error})") from None
        return validated(cls, content, str(path))


def work_command(python: str, pack_file: str, exit_code_file: Path | None = None) -> str:
    """Return the shell command of a worker. ``python`` and ``pack_file`` are shell words already."""
    command = f"{python} -u -m bench work --pack {pack_file}"
    return f"{command} --exit-code {shlex.quote(str(exit_code_file))}" if exit_code_file else command


def stop_file(pack_file: Path) -> Path:
    """Return the file whose existence tells workers not to begin: a signal may come before its handler is there."""
    return pack_file.with_name("stopped")


def interrupt(number: int, frame: object) -> None:
    """Handle a signal as Ctrl-C is handled; the message of the KeyboardInterrupt is the name of the signal."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def work(pack_file: Path) -> int:
    """Work through a pack and return the exit code of the process: 0, LEFT_OPEN, REQUEUE or TERMINATED.

    SIGUSR2 is how Slurm announces preemption and the time limit; the worker then asks to be started again. SIGTERM is
    Slurm ending the job: it requeues the job by itself where that is wanted, and a cancelled job must not come back.
    """
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        if stop_file(pack_file).exists():
            raise KeyboardInterrupt("stopped while starting")
        from bench.sweep.execute import work_through

        pack = Pack.read(pack_file)
        retry, log = RETRY_POLICIES[pack.retry], output_file(pack_file.parent)
        faults = work_through(pack.runs, pack.execution, pack.results, retry=retry, wait=False, log=log)
    except KeyboardInterrupt as stop:
        return TERMINATED if str(stop).startswith("SIGTERM") else REQUEUE
    for fault in faults:
        print(f"left open: {fault}", file=sys.stderr)
    return LEFT_OPEN if faults else 0


def output_file(folder: Path) -> str | None:
    """Return the file in a Submitit folder that receives this process's standard error; None outside of its jobs."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    import submitit

    try:
        job = submitit.JobEnvironment()
        file = folder / f"{job.job_id}_{job.global_rank}_log.err"
    except (RuntimeError, ValueError, KeyError):  # the variable is there, but this is no job of Submitit
        return None
    return str(file) if file.exists() else None
