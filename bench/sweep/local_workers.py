"""Worker processes through Submitit's local executor, at most so many at once."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.config import Execution, Run
from bench.events import Listener, RunEvent, silent
from bench.sweep.execute import work_through
from bench.sweep.run_follower import RunFollower

POLL_SECONDS = 1.0
TIMEOUT_MINUTES = 60 * 24 * 14  # Submitit wants one; a lane works through many runs


class WorkerTask:
    """Runs as plain data, so that a job pickles by reference to this module and a few strings."""

    def __init__(self, runs: Sequence[Run], execution: Execution, results: Path) -> None:
        self._runs = [run.model_dump(mode="json", by_alias=True) for run in runs]
        self._execution = execution.model_dump(mode="json")
        self._results = str(results)

    def work(self, *, again: bool) -> None:
        """Work through the runs; those that a living process has claimed are passed over."""
        runs = [Run.model_validate(run) for run in self._runs]
        execution = Execution.model_validate(self._execution)
        work_through(runs, execution, Path(self._results), silent, wait=False, again=again)


class LocalWorker(WorkerTask):
    """What a worker process executes: the whole list, from which each worker takes what is free."""

    def __init__(self, runs: Sequence[Run], execution: Execution, results: Path) -> None:
        super().__init__(runs, execution, results)
        self.gpus: str | None = None
        # Submitit names jobs by process ids, which come again: every call has a folder of its own.
        self.folder = results / "submitit" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self.stopped = self.folder / "stopped"

    def __call__(self) -> None:
        """Work through the list. SIGTERM stops it gracefully."""
        signal.signal(signal.SIGTERM, interrupt)
        if self.stopped.exists():  # the signal came before there was a handler for it
            raise KeyboardInterrupt("stopped while starting")
        if self.gpus is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        self.work(again=False)


def interrupt(number: int, frame: object) -> None:
    """Handle a signal as Ctrl-C, with its name."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def local(runs: Sequence[Run], execution: Execution, results: Path, *, jobs: int, report: Listener) -> None:
    """Work through ``runs`` in ``jobs`` worker processes until all are settled.

    Submitit's local executor starts everything it is given at once; so it is given ``jobs`` lanes, each of which claims
    runs from the same list, which costs one start and one import per lane and not per run. Lanes get the visible GPUs
    in turn. Progress is read from the results folder. A lane that is killed is replaced; its run goes on from the last
    checkpoint, until it is parked for its deaths.

    Raises:
        KeyboardInterrupt: after the lanes were told to stop and have made their checkpoints.
    """
    results = results.resolve()
    pool = Pool(LocalWorker(runs, execution, results), gpus(execution))
    follow = RunFollower(runs, results, report)
    try:
        with signals(interrupt):
            pool.start(min(jobs, len(runs)))
            while (left := follow.look()) or pool.lanes:
                killed, broken = _ended(pool, report)
                if not pool.lanes and broken:
                    break
                if left and killed:
                    pool.start(killed)
                elif not pool.lanes and any(name != "running" for name in left.values()):
                    pool.start(1)  # the owner of a run that another sweep was working on is dead
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pool.stop()
        raise


def _ended(pool: "Pool", report: Listener) -> tuple[int, bool]:
    """Return how many lanes have been killed since the last look, and whether one could not work at all."""
    killed, broken = 0, False
    for job in pool.ended():
        if not job.paths.result_pickle.exists():
            killed += 1
            report(RunEvent("note", "", f"worker {job.job_id} was killed; another takes its place"))
        elif job.exception() is not None:
            broken = True
            report(RunEvent("note", "", f"worker {job.job_id} ended early; see {job.paths.stderr}"))
    return killed, broken


class Pool:
    """The running lanes of one call of :func:`local`."""

    def __init__(self, lane: LocalWorker, gpus: list[str]) -> None:
        import submitit

        self._executor = submitit.LocalExecutor(folder=lane.folder)
        self._executor.update_parameters(timeout_min=TIMEOUT_MINUTES)
        self._lane = lane
        self._gpus = gpus
        self._started = 0
        self.lanes: list[Any] = []

    def start(self, count: int) -> None:
        """Start lanes, each on the next GPU if there are any."""
        for _ in range(count):
            self._lane.gpus = self._gpus[self._started % len(self._gpus)] if self._gpus else _visible()
            # Ctrl-C on the terminal must not reach the lanes: they are told to stop in time for a checkpoint. What is
            # ignored when a process starts stays ignored in it.
            with signals(signal.SIG_IGN):
                self.lanes.append(self._executor.submit(self._lane))
            self._started += 1

    def ended(self) -> list[Any]:
        """Take out and return the lanes that have ended."""
        over = [job for job in self.lanes if job.done()]
        self.lanes = [job for job in self.lanes if job not in over]
        return over

    def stop(self) -> None:
        """Ask all lanes to stop at their next update, and wait until they have.

        Submitit's own ``cancel`` kills a job after a second, too soon for a checkpoint; SIGTERM is passed on to it.
        """
        with suppress(OSError):  # on a full disk the signal still goes out
            self._lane.stopped.touch()
        for job in self.lanes:
            if not job.done():
                os.kill(int(job.job_id), signal.SIGTERM)
        for job in self.lanes:
            job.wait()


def gpus(execution: Execution) -> list[str]:
    """Return the GPUs that lanes get in turn, as CUDA_VISIBLE_DEVICES names them; none if the runs name a device."""
    if execution.device not in ("auto", "cuda"):
        return []
    named = _visible()
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _visible() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@contextmanager
def signals(handler: Any) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so for a while, also where they are ignored, as Ctrl-C is in the background."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
