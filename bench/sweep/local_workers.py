"""Worker processes on this machine through Submitit's local executor, at most so many at once."""

import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import Execution, Run, is_mini
from bench.events import Listener, RunEvent, silent
from bench.files import explain_write_errors
from bench.run_dir import RunDir
from bench.states import DEFAULT_RETRY, RetryPolicy
from bench.sweep import attempts
from bench.sweep.run_follower import RunFollower
from bench.sweep.worker import LEFT_OPEN, REQUEUE, TERMINATED, Pack, interrupt, stop_file, work_command

POLL_SECONDS = 1.0
TIMEOUT_MINUTES = 60 * 24 * 14  # Submitit requires a limit; a worker works through many runs
WORTHWHILE_UPDATES = 1000  # of miniature runs, 15 to 25 s; a worker starts in about 4 s
KILLED_IN_VAIN = 5  # workers, for each that there should be, that die in a row before any of them has begun a run
WORKER_BYTES = 1 << 30  # a worker with miniature runs stays below this


def worthwhile_workers(runs: Sequence[Run], execution: Execution, updates: Callable[[Run], int]) -> int:
    """Return how many workers a sweep should have where nobody says; 1 stands for none, everything in this process.

    A miniature run leaves all cores but one idle, so there is a worker for every core, as far as memory allows, where
    there is enough to do. Where a run could have a GPU, or is not miniature, or asks for threads, there are none.

    Args:
        runs: the runs that are to be done.
        execution: device and threads.
        updates: gives the number of updates of a run.
    """
    if execution.threads > 1 or execution.device not in ("auto", "cpu") or not all(is_mini(r.backbone) for r in runs):
        return 1
    if len(runs) < 2 or sum(updates(run) for run in runs) < WORTHWHILE_UPDATES or gpus(execution):
        return 1
    import psutil

    return max(1, min(cores(), len(runs), psutil.virtual_memory().available // WORKER_BYTES))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    the last checkpoint, until it is parked because its processes die. Where worker after worker dies before it begins
    anything, no more are started. Workers share the cores; records say how many share a device, because their steps
    take longer.

    Raises:
        KeyboardInterrupt: this process was told to stop; the workers have made their checkpoints and ended.
        UsageError: the results folder cannot be written.
    """
    results = results.resolve()
    devices, count = gpus(execution), min(jobs, len(runs))
    sharing = {"share": max(1, cores() // jobs), "workers": math.ceil(count / max(1, len(devices)))}
    execution = execution.model_copy(update=sharing)
    pool = WorkerPool(Pack(runs=tuple(runs), execution=execution, results=results, retry=retry.name), devices)
    follower = RunFollower(runs, results, report, retry)
    try:
        with signals(interrupt):
            pool.start(count)
            left_open, in_vain, begun = False, 0, -1
            held_elsewhere: set[str] = set()
            while (unsettled := follower.look()) or pool.workers:
                killed, gave_up = _ended_workers(pool, report)
                left_open = left_open or gave_up
                running = {run for run, name in unsettled.items() if name == "running"}
                idle = unsettled.keys() - running
                if killed:
                    before, begun = begun, sum(len(attempts.read(RunDir(results, run.id))) for run in runs)
                    in_vain = in_vain + killed if begun == before else 0
                if killed and in_vain > KILLED_IN_VAIN * count:
                    left_open = True
                    report(RunEvent("note", "", f"{in_vain} workers died before they began a run; see {pool.folder}"))
                elif unsettled and killed:
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
        self.folder = workers_folder(pack.results) / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self._pack, self._pack_file = pack, self.folder / "pack.json"
        with explain_write_errors(self.folder):
            self._executor = submitit.LocalExecutor(folder=self.folder)
            pack.write(self._pack_file)
        self._executor.update_parameters(timeout_min=TIMEOUT_MINUTES)
        self._gpus = gpus
        self._started = 0
        self.workers: list[LocalWorker] = []

    def start(self, count: int) -> None:
        """Start so many workers, each on the next GPU if there are any."""
        if not self._pack_file.exists() and self._pack.results.is_dir():  # another results folder has its place
            with explain_write_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._pack.write(self._pack_file)
        for _ in range(count):
            visible = self._gpus[self._started % len(self._gpus)] if self._gpus else _visible_gpus()
            exit_code_file = self.folder / f"worker-{self._started}.exit"
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
