"""Worker processes through Submitit's local executor, at most so many at once."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.config import Execution, Run
from bench.environment import environment
from bench.events import Event, Report, silent
from bench.records import Failure, Folder, Record, now, read_lines
from bench.sweep.claims import claim, holder, is_dead
from bench.sweep.execute import work_through
from bench.sweep.states import state

POLL_SECONDS = 1.0
TIMEOUT_MINUTES = 60 * 24 * 14  # Submitit wants one; a lane works through many runs
TAIL_LINES = 20


class Lane:
    """What a worker process executes: plain data and a module-level class, so that it pickles by reference."""

    def __init__(self, runs: Sequence[Run], execution: Execution, results: Path, retry_failed: bool) -> None:
        self.runs = [run.model_dump(mode="json", by_alias=True) for run in runs]
        self.execution = execution.model_dump(mode="json")
        self.results = str(results)
        self.retry_failed = retry_failed
        self.gpus: str | None = None
        # Submitit names jobs by process ids, which come again: every call has a folder of its own.
        self.folder = results / "submitit" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self.stopped = self.folder / "stopped"

    def __call__(self) -> None:
        """Work through the list; runs that another lane has claimed are passed over. SIGTERM stops it gracefully."""
        signal.signal(signal.SIGTERM, _interrupt)
        if self.stopped.exists():  # the signal came before there was a handler for it
            raise KeyboardInterrupt("stopped while starting")
        if self.gpus is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        runs = [Run.model_validate(run) for run in self.runs]
        execution = Execution.model_validate(self.execution)
        work_through(runs, execution, Path(self.results), silent, self.retry_failed)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def local(
    runs: Sequence[Run],
    execution: Execution,
    results: Path,
    *,
    jobs: int,
    report: Report,
    retry_failed: bool = False,
) -> None:
    """Work through ``runs`` in ``jobs`` worker processes until all are done or have failed.

    Submitit's local executor starts everything it is given at once; so it is given ``jobs`` lanes, each of which claims
    runs from the same list, which costs one start and one import per lane and not per run. Lanes get the visible GPUs
    in turn. Progress is read from the results folder. A lane that dies takes only its current run with it, which is
    recorded as failed; another lane goes on.

    Raises:
        KeyboardInterrupt: after the lanes were told to stop and have made their checkpoints.
    """
    results = results.resolve()
    pool = Pool(Lane(runs, execution, results, retry_failed), gpus(execution))
    watch = Watch(runs, results, report)
    try:
        with _signals(_interrupt):
            pool.start(min(jobs, len(runs)))
            while pool.lanes:
                time.sleep(POLL_SECONDS)
                watch.look()
                for job in pool.ended():
                    if _record_dead(runs, results, pool.begun, job):
                        pool.start(1)
                    elif job.exception() is not None:
                        report(Event("note", "", f"worker {job.job_id} ended early; see {job.paths.stderr}"))
    except KeyboardInterrupt:
        pool.stop()
        raise
    watch.look()


class Pool:
    """The running lanes of one call of :func:`local`."""

    def __init__(self, lane: Lane, gpus: list[str]) -> None:
        import submitit

        self.begun = time.time()
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
            with _signals(signal.SIG_IGN):
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


def _record_dead(runs: Sequence[Run], results: Path, begun: float, job: Any) -> bool:
    """Record as failed the runs whose worker died since ``begun`` without a word; say whether there were any."""
    found = False
    for run in runs:
        folder = Folder(results, run.id)
        held = holder(folder.claim)
        if held is None or held["started"] < begun - 1 or not is_dead(held):
            continue
        with claim(folder.claim) as mine:
            if mine and folder.run.exists() and state(results, run).name == "running":
                curve = read_lines(folder.curve)
                failure = Failure(
                    phase="worker",
                    step=curve[-1]["step"] if curve else None,
                    type="WorkerDied",
                    message=f"process {held['pid']} was killed from outside, or by the system for want of memory",
                    tail=(job.stderr() or "").splitlines()[-TAIL_LINES:],
                )
                segments = read_lines(folder.segments)
                outcome: dict[str, Any] = {"status": "failed", "cause": "error", "error": failure, "finished": now()}
                limited = run.recipe.limit is not None
                folder.finish(
                    Record(id=run.id, run=run, environment=environment(), segments=segments, limited=limited, **outcome)
                )
                found = True
    return found


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
def _signals(handler: Any) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so for a while, also where they are ignored, as Ctrl-C is in the background."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Watch:
    """Turns what appears in the results folder into events."""

    def __init__(self, runs: Sequence[Run], results: Path, report: Report) -> None:
        self._runs = runs
        self._results = results
        self._report = report
        self._seen: dict[str, Event] = {}

    def look(self) -> None:
        """Report every run that has begun, come further or ended since the last look."""
        for run in self._runs:
            last = self._seen.get(run.id)
            if last is not None and last.kind == "end":
                continue
            event = self._event(run)
            if event is not None and event != last:
                if last is None:
                    self._report(Event("start", run.id))
                self._seen[run.id] = event
                self._report(event)

    def _event(self, run: Run) -> Event | None:
        found = state(self._results, run)
        if found.name == "running":
            curve = read_lines(Folder(self._results, run.id).curve)
            steps = run.recipe.steps
            if not curve or steps is None:
                return Event("phase", run.id, "train")
            return Event("step", run.id, "", curve[-1]["step"], steps, curve[-1]["loss"])
        if found.name in ("done", "failed"):
            return Event("end", run.id, f"{found.name}: {found.note}" if found.note else found.name)
        return None
