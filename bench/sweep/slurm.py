"""Sweeps as job arrays of Slurm, through Submitit.

Submitit renders and submits; what has become of a run is read off the results folder, never off Submitit's pickles or
Slurm's states. A job works through its runs and asks Slurm to start it again where it was told to stop or was killed.
"""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from bench.config import Execution, Run, is_mini
from bench.errors import UsageError
from bench.events import Listener, RunEvent
from bench.files import explain_write_errors, write_json
from bench.record_schema import now
from bench.run_dir import RunDir
from bench.sweep import attempts, slurm_client
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.local_workers import WorkerTask, interrupt
from bench.sweep.profile import Profile
from bench.sweep.resource_estimate import gpus, memory_gb
from bench.sweep.run_follower import RunFollower
from bench.sweep.slurm_client import SlurmSubmission, SubmittedJob
from bench.sweep.states import Name, state

POLL_SECONDS = 2.0
QUEUE_SECONDS = 10.0  # between two questions to Slurm
AGAIN = 75  # exit code of a job that was told to stop, made its checkpoints and wants to go on (EX_TEMPFAIL)
TERMINATED = 128 + signal.SIGTERM
TIDY_LOOKS = 10  # at the queue, before a job that has nothing to do is ended
STOPPED = ("CANCELLED", "SIGTERM", "SIGINT")  # on purpose, as Slurm says it, or the reason of an attempt
REPORT_MINUTES = 30
REPORT_MEMORY = "2048M"


class SlurmTask(WorkerTask):
    """What a job executes."""

    def __call__(self) -> None:
        """Work through the runs. SIGUSR2 (preemption, time limit) and SIGTERM make checkpoints and end the job."""
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, interrupt)
        try:
            self.work(again=True)
        except KeyboardInterrupt as stop:
            # SIGTERM is Slurm ending the job by itself: a cancelled one must not come back, a requeued one does.
            sys.exit(TERMINATED if str(stop) == "SIGTERM" else AGAIN)


class Executor(submitit.SlurmExecutor):
    """Submitit's, which also renders scripts where there is no Slurm."""

    @classmethod
    def affinity(cls) -> int:
        """Say that Slurm is here; :func:`bench.sweep.slurm_client.require` has the better error."""
        return 2

    def script(self, jobs: int) -> str:
        """Return the sbatch script of so many jobs."""
        if jobs > 1:
            self.parameters["map_count"] = jobs
        return self._make_submission_file_text(self._submitit_command_str, "")


@dataclass(frozen=True)
class SlurmSubmitter:
    """Submits runs: to which folder, with which profile, under whose name.

    ``report`` becomes a job of its own, once the others have ended.
    """

    sweep: str
    command: str
    results: Path
    profile: Profile
    execution: Execution
    report: Callable[[], None] | None = None

    def script(self, runs: Sequence[Run]) -> str:
        """Return the sbatch script with which these runs would be submitted."""
        packs = _packs(runs, self.profile.pack)
        return self._executor("NAME", runs).script(len(packs))

    def send(self, runs: Sequence[Run]) -> list[SlurmSubmission]:
        """Submit those runs that nobody has submitted and nobody is working on, as one job array.

        Raises:
            UsageError: Slurm refuses them, or the results folder cannot be written.
        """
        with _alone(self.results):
            free = self._free(runs)
            limit = _array_limit() * self.profile.pack
            return [self._submit(free[i : i + limit]) for i in range(0, len(free), limit)]

    def _free(self, runs: Sequence[Run]) -> list[Run]:
        observer = ClaimObserver()
        open_ = [run for run in runs if not state(self.results, run, observer).settled(again=True)]
        placed = {
            run: place for run, place in slurm_client.places(self.results).items() if run in {r.id for r in open_}
        }
        known = slurm_client.queued(place.submission for place in placed.values())
        if known is None:
            raise slurm_client.SlurmUnavailable(
                "Slurm does not answer (try sinfo); what runs goes on, run the command again later"
            )
        waiting = {run for run, place in placed.items() if place.job in known}
        return [r for r in open_ if r.id not in waiting and state(self.results, r, observer).name != "running"]

    def _submit(self, runs: Sequence[Run]) -> SlurmSubmission:
        name = f"{self.sweep}-{time.strftime('%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        executor = self._executor(name, runs)
        packs = _packs(runs, self.profile.pack)
        with explain_write_errors(executor.folder), _refused():
            executor.folder.mkdir(parents=True)
            sent = executor.submit_array([SlurmTask(pack, self._where(pack), self.results) for pack in packs])
            before = [{run.id: len(attempts.read(RunDir(self.results, run.id))) for run in pack} for pack in packs]
            before_this = slurm_client.submissions(self.results)
            submission = SlurmSubmission(
                number=before_this[-1].number + 1 if before_this else 1,
                name=name,
                sweep=self.sweep,
                command=self.command,
                submitted=now(),
                jobs=dict(zip((job.job_id for job in sent), before, strict=True)),
                conf=os.environ.get("SLURM_CONF"),
            )
            if self.report:
                report = self._send_report(self.report, executor, name, sent)
                submission = submission.model_copy(update={"report": report})
            write_json(executor.folder / "submission.json", submission.model_dump(mode="json"))
        return submission

    def _where(self, runs: Sequence[Run]) -> Execution:
        """Return the execution of a job: as many threads as it has CPUs, except for miniature models."""
        if self.execution.threads or all(is_mini(run.backbone) for run in runs):
            return self.execution
        return self.execution.model_copy(update={"threads": self.profile.cpus})

    def _executor(self, name: str, runs: Sequence[Run]) -> Executor:
        executor = Executor(slurm_client.folder(self.results) / name, python=self.profile.python)
        wanted = self.profile.submitit_parameters(name)
        if self.profile.gpus is None and (count := gpus(runs, self.execution)):
            wanted["gpus_per_node"] = count
        if self.profile.memory_gb is None:
            wanted["mem"] = f"{memory_gb(runs, self.execution)}G"
        if self.profile.requeue:
            wanted["teardown"] = _start_again(self.profile.max_requeues)
        executor.update_parameters(**wanted)
        return executor

    def _send_report(self, report: Callable[[], None], runs: Executor, name: str, sent: Sequence[Any]) -> str:
        executor = Executor(runs.folder, python=self.profile.python)
        wanted = {k: v for k, v in runs.parameters.items() if k not in ("gpus_per_node", "teardown", "map_count")}
        wanted |= {"job_name": f"{name}-report", "time": min(self.profile.time_minutes, REPORT_MINUTES)}
        wanted |= {"mem": REPORT_MEMORY, "dependency": f"afterany:{sent[0].job_id.partition('_')[0]}"}
        executor.update_parameters(**wanted)
        return str(executor.submit(report).job_id)


def _packs(runs: Sequence[Run], size: int) -> list[Sequence[Run]]:
    return [runs[i : i + size] for i in range(0, len(runs), size)]


def _start_again(times: int) -> list[str]:
    """Return the end of a job's script: a job that was told to stop, or was killed, is queued again so many times.

    Exit codes above 128 are deaths by signal. SIGTERM comes from Slurm, which then knows itself what is next.
    """
    return [
        "code=$?",
        f"if {{ [ $code -eq {AGAIN} ] || [ $code -gt 128 ]; }} && [ $code -ne {TERMINATED} ] "
        f'&& [ "${{SLURM_RESTART_COUNT:-0}}" -lt {times} ]; then',
        '  for second in 1 5 15 60; do scontrol requeue "$SLURM_JOB_ID" && break; sleep $second; done',
        "fi",
        "exit $code",
    ]


def _array_limit() -> int:
    """Return how many jobs one array may have."""
    return slurm_client.setting("MaxArraySize") or 1001


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """Let one process at a time look what is queued and submit the rest."""
    observer = ClaimObserver()
    while (lease := acquire(slurm_client.folder(results) / "submitting", observer)) is None:
        time.sleep(0.5)
    with lease:
        yield


class SlurmMonitor:
    """Looks after submitted runs until they are settled: reports progress, submits again what Slurm has lost."""

    def __init__(
        self, sender: SlurmSubmitter, runs: Sequence[Run], sent: Sequence[SlurmSubmission], report: Listener
    ) -> None:
        self._sender = sender
        self._sent = list(sent)
        self._runs = {run.id: run for run in runs}
        self._report = report
        self._follow = RunFollower(runs, sender.results, report, again=True)
        self._gone: set[str] = set()
        self._asked = -QUEUE_SECONDS

    def attend(self) -> None:
        """Return when every run is settled, or is nowhere any more."""
        while left := self._follow.look():
            if time.monotonic() - self._asked > QUEUE_SECONDS:
                self._asked = time.monotonic()
                if not self._still_somewhere(left):
                    return
            time.sleep(POLL_SECONDS)
        self._tidy()

    def _still_somewhere(self, left: dict[str, Name]) -> bool:
        """Whether there is anything to wait for; runs whose jobs have died are submitted again."""
        placed = {run: place for run, place in slurm_client.places(self._sender.results).items() if run in left}
        known = slurm_client.queued(place.submission for place in placed.values())
        if known is None:
            return True
        working = {run for run, name in left.items() if name == "running"}
        gone = set(left) - working - {run for run, place in placed.items() if place.job in known}
        twice, self._gone = gone & self._gone, gone  # a record may be seen later than the end of its job
        if dead := lost(self._sender.results, [self._runs[run] for run in twice], placed):
            self._report(RunEvent("note", "", f"the jobs of {len(dead)} runs have died; submitting these again"))
            try:
                self._sent += self._sender.send(dead)
            except slurm_client.SlurmUnavailable as fault:  # since the last question; the next look may find it back
                self._report(RunEvent("note", "", str(fault)))
            return True
        return gone != set(left) or twice != gone

    def _tidy(self) -> None:
        """End jobs with nothing to do: our reports, which are written here, and one that hangs without its step."""
        for one in self._sent:
            slurm_client.cancel({one.report} if one.report else set(), one.conf)
        placed = [place for run, place in slurm_client.places(self._sender.results).items() if run in self._runs]
        for one in {place.submission.name: place.submission for place in placed}.values():
            left: set[str] = set()
            for _ in range(TIDY_LOOKS):
                known = slurm_client.queued([one]) or {}
                left = {job for job in known if job in one.jobs and one.jobs[job].keys() <= self._runs.keys()}
                if not left:
                    break
                time.sleep(POLL_SECONDS)
            slurm_client.cancel(left, one.conf)


def lost(results: Path, runs: Sequence[Run], placed: dict[str, SubmittedJob]) -> list[Run]:
    """Return those runs, of some without a job, that nobody has stopped on purpose and that may fare better next time.

    A run whose attempt since its submission has died; one that has no attempt only where Slurm's accounting still
    thinks that its job is to come, for then the controller has forgotten it. The accounting also tells a cancelled job
    from one that died; without it, an attempt that got SIGTERM counts as cancelled. A run that was never submitted was
    another executor's.
    """
    said = slurm_client.endings(placed[run.id] for run in runs if run.id in placed)
    return [run for run in runs if _died(results, run, placed.get(run.id), said)]


def _died(results: Path, run: Run, place: SubmittedJob | None, said: dict[str, str]) -> bool:
    made = attempts.read(RunDir(results, run.id))
    ending = said.get(place.job, "") if place else ""
    if len(made) > (place.attempts if place else 0):
        return made[-1].outcome != "failed" and (ending or made[-1].reason) not in STOPPED
    return ending in ("PENDING", "RUNNING", "REQUEUED")


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
        raise UsageError(f"sbatch refuses the jobs: {' '.join(lines[-1].split())}; change the profile") from None
