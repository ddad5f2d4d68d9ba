"""Worker processes on this machine through Submitit's local executor, at most so many at once."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import Execution, Run
from bench.events import Listener, RunEvent, silent
from bench.files import explain_write_errors
from bench.states import DEFAULT_RETRY, RetryPolicy
from bench.sweep.run_follower import RunFollower
from bench.sweep.worker import LEFT_OPEN, REQUEUE, TERMINATED, Pack, interrupt, stop_file, work_command

POLL_SECONDS = 1.0
TIMEOUT_MINUTES = 60 * 24 * 14  # Submitit requires a limit; a worker works through many runs


def run_in_workers(
    runs: Sequence[Run],
    execution: Execution,
    results: Path,
    *,
    jobs: int,
    report: Listener = silent,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> None:
    """Work through ``runs`` in ``jobs`` worker processes until all are settled.

    Submitit's local executor starts everything that it is given at once. So it is given ``jobs`` workers, each of which
    claims runs from the same list: Python starts and imports once per worker, not once per run. Workers get the visible
    GPUs in turn. Progress is read from the results folder. A worker that is killed is replaced; its run goes on from
    the last checkpoint, until it is parked because its processes die.

    Raises:
        KeyboardInterrupt: this process was told to stop; the workers have made their checkpoints and ended.
        UsageError: the results folder cannot be written.
    """
    results = results.resolve()
    pack = Pack(runs=tuple(runs), execution=execution, results=results, retry=retry.name)
    pool = WorkerPool(pack, gpus(execution))
    follower = RunFollower(runs, results, report, retry)
    try:
        with signals(interrupt):
            pool.start(min(jobs, len(runs)))
            left_open = False
            held_elsewhere: set[str] = set()
            while (unsettled := follower.look()) or pool.workers:
                killed, gave_up = _ended_workers(pool, report)
                left_open = left_open or gave_up
                running = {run for run, name in unsettled.items() if name == "running"}
                idle = unsettled.keys() - running
                if unsettled and killed:
                    pool.start(killed)
                elif not pool.workers and (idle & held_elsewhere or (idle and not left_open)):
                    pool.start(1)  # another sweep was executing a run, and its process has died
                elif not pool.workers and not running:
                    break
                held_elsewhere = set() if pool.workers else running
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pool.stop()
        raise


def _ended_workers(pool: "WorkerPool", report: Listener) -> tuple[int, bool]:
    """Return how many workers have been killed since the last look, and whether one left runs open that it could not
    go on with, or failed outside of any run."""
    killed, gave_up = 0, False
    for worker in pool.take_ended():
        code = worker.exit_code()
        if code in (None, REQUEUE, TERMINATED):
            killed += 1
            report(RunEvent("note", "", f"worker {worker.job.job_id} was killed; another takes its place"))
        elif code == LEFT_OPEN:
            gave_up = True
        elif code != 0:
            gave_up = True
            report(RunEvent("note", "", f"worker {worker.job.job_id} ended early; see {worker.job.paths.stderr}"))
    return killed, gave_up


@dataclass(frozen=True)
class LocalWorker:
    """A worker process: Submitit's job, and the file that the worker writes its exit code to."""

    job: Any
    exit_code_file: Path

    def exit_code(self) -> int | None:
        """Return the exit code of a worker that has ended, None for one that was killed."""
        try:
            return int(self.exit_code_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


class WorkerPool:
    """The running workers of one call of :func:`run_in_workers`.

    Raises:
        UsageError: the results folder cannot be written.
    """

    def __init__(self, pack: Pack, gpus: list[str]) -> None:
        import submitit

        # Submitit names files by process ids, which are used again: every call has a folder of its own.
        self._folder = workers_folder(pack.results) / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self._pack_file = self._folder / "pack.json"
        with explain_write_errors(self._folder):
            self._executor = submitit.LocalExecutor(folder=self._folder)
            pack.write(self._pack_file)
        self._executor.update_parameters(timeout_min=TIMEOUT_MINUTES)
        self._gpus = gpus
        self._started = 0
        self.workers: list[LocalWorker] = []

    def start(self, count: int) -> None:
        """Start so many workers, each on the next GPU if there are any."""
        for _ in range(count):
            visible = self._gpus[self._started % len(self._gpus)] if self._gpus else _visible_gpus()
            exit_code_file = self._folder / f"worker-{self._started}.exit"
            command = work_command(shlex.quote(sys.executable), shlex.quote(str(self._pack_file)), exit_code_file)
            # Ctrl-C on the terminal must not reach the workers: `stop` tells them in time for a checkpoint. A signal
            # that is ignored when a process starts stays ignored in it.
            with signals(signal.SIG_IGN):
                job: Any = self._executor._submit_command(f"{_environment(visible)} {command}")
            self.workers.append(LocalWorker(job, exit_code_file))
            self._started += 1

    def take_ended(self) -> list[LocalWorker]:
        """Remove the workers that have ended from the pool and return them."""
        ended = [worker for worker in self.workers if worker.job.done()]
        self.workers = [worker for worker in self.workers if worker not in ended]
        return ended

    def stop(self) -> None:
        """Ask all workers to stop at their next update, and wait until they have.

        Submitit's own ``cancel`` kills a job after a second, too soon for a checkpoint. The process that Submitit
        started passes SIGTERM on to its worker.
        """
        with suppress(OSError):  # on a full disk the signal still goes out
            stop_file(self._pack_file).touch()
        for worker in self.workers:
            if not worker.job.done():
                os.kill(int(worker.job.job_id), signal.SIGTERM)
        for worker in self.workers:
            worker.job.wait()


def workers_folder(results: Path) -> Path:
    """Return the folder for what workers print: one of this user where the usual one is another person's."""
    folder = results / "submitit"
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return results / f"submitit-{os.getuid()}"
    return folder


def gpus(execution: Execution) -> list[str]:
    """Return the GPUs that workers get in turn, as CUDA_VISIBLE_DEVICES names them; [] if the runs name a device."""
    if execution.device not in ("auto", "cuda"):
        return []
    visible = _visible_gpus()
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _visible_gpus() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def _environment(visible_gpus: str | None) -> str:
    """Return the beginning of a command that sets the visible GPUs, which Submitit has changed, or unsets them."""
    if visible_gpus is None:
        return "env -u CUDA_VISIBLE_DEVICES"
    return f"env {shlex.quote(f'CUDA_VISIBLE_DEVICES={visible_gpus}')}"


@contextmanager
def signals(handler: Any) -> Iterator[None]:
    """Set the handler of SIGINT and SIGTERM for a while, also where they are ignored as in a background job."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
