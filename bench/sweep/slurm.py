"""Submitting sweeps to Slurm as job arrays, through Submitit.

Submitit renders and submits command lines. What has become of a run is read from the results folder, never from
Slurm's states. A job works through its runs; where it was told to stop or was killed, its script asks Slurm to start it
again.
"""

import os
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import submitit

from bench.config import Execution, Run
from bench.errors import UsageError
from bench.files import explain_write_errors, write_json
from bench.record_schema import now
from bench.run_dir import RunDir
from bench.states import DEFAULT_RETRY, RetryPolicy
from bench.sweep import attempts, slurm_client
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.profile import Profile
from bench.sweep.resource_estimate import gpus, memory_gb
from bench.sweep.run_state import state
from bench.sweep.slurm_client import SlurmSubmission
from bench.sweep.worker import REQUEUE, TERMINATED, Pack, work_command

REPORT_MINUTES = 30
REPORT_MEMORY = "2048M"
DEFAULT_ARRAY_LIMIT = 1001  # Slurm's default of MaxArraySize


class CommandExecutor(submitit.SlurmExecutor):
    """Submits command lines, where Submitit by itself submits pickled functions, and renders their scripts."""

    @classmethod
    def affinity(cls) -> int:
        """Claim that Slurm is here, so that scripts can be rendered anywhere.

        :func:`bench.sweep.slurm_client.require` has the better error message for a machine without Slurm.
        """
        return 2

    def script(self, command: str, array: int | None = None) -> str:
        """Return the sbatch script of a command; ``array`` is the number of jobs of an array."""
        self.parameters["map_count"] = array
        return self._make_submission_file_text(command, "")

    def submit_command(self, command: str, array: int | None = None) -> str:
        """Submit a command and return the id of the job or array.

        Raises:
            FailedJobError: Submitit's; sbatch refuses the job.
        """
        self.parameters["map_count"] = array
        return str(self._submit_command(command).job_id)


@dataclass(frozen=True)
class SlurmSubmitter:
    """Submits the runs of a sweep.

    Attributes:
        sweep: the name of the sweep, with which the names of its jobs begin.
        command: the command line that submits, for the record.
        results: the results folder, absolute.
        profile: what the jobs ask for.
        execution: device, threads and data roots of the runs.
        retry: the policy for failed runs.
        report_arguments: arguments of ``python -m bench`` for a job that runs once the others have ended; none if
            empty.
    """

    sweep: str
    command: str
    results: Path
    profile: Profile
    execution: Execution
    retry: RetryPolicy = DEFAULT_RETRY
    report_arguments: Sequence[str] = ()

    def script(self, runs: Sequence[Run]) -> str:
        """Return the sbatch script with which these runs would be submitted."""
        executor = self._executor("NAME", runs)
        return executor.script(self._array_command(executor), len(_split(runs, self.profile.pack)))

    def submit(self, runs: Sequence[Run]) -> list[SlurmSubmission]:
        """Submit those runs that are neither queued nor executed, as one job array, or several if it is too large.

        Raises:
            SlurmUnavailable: Slurm does not answer.
            UsageError: Slurm refuses the jobs, or the results folder cannot be written.
        """
        with _submission_lock(self.results):
            free = self._free_runs(runs)
            limit = (slurm_client.config_number("MaxArraySize") or DEFAULT_ARRAY_LIMIT) * self.profile.pack
            return [self._submit_array(free[i : i + limit]) for i in range(0, len(free), limit)]

    def _free_runs(self, runs: Sequence[Run]) -> list[Run]:
        observer = ClaimObserver()
        unsettled = [run for run in runs if not state(self.results, run, observer).is_settled(self.retry)]
        ids = {run.id for run in unsettled}
        submitted = {run: job for run, job in slurm_client.submitted_jobs(self.results).items() if run in ids}
        queue = slurm_client.queued_jobs(job.submission for job in submitted.values())
        if queue is None:
            raise slurm_client.SlurmUnavailable(
                "Slurm does not answer (try sinfo); what runs goes on, run the command again later"
            )
        queued = {run for run, job in submitted.items() if job.id in queue}
        # The states are read again: a job may have left the queue because it has just finished or begun its run.
        return [
            run
            for run in unsettled
            if run.id not in queued
            and (current := state(self.results, run, observer)).name != "running"
            and not current.is_settled(self.retry)
        ]

    def _submit_array(self, runs: Sequence[Run]) -> SlurmSubmission:
        name = f"{self.sweep}-{time.strftime('%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        executor = self._executor(name, runs)
        packs = _split(runs, self.profile.pack)
        with explain_write_errors(executor.folder), _refusal_as_usage_error():
            executor.folder.mkdir(parents=True)
            for index, pack in enumerate(packs):
                execution, retry = self._job_execution(), self.retry.name
                content = Pack(runs=tuple(pack), execution=execution, results=self.results, retry=retry)
                content.write(_pack_file(executor.folder, index))
            made = [{run.id: len(attempts.read(RunDir(self.results, run.id))) for run in pack} for pack in packs]
            array = executor.submit_command(self._array_command(executor), len(packs))
            earlier = slurm_client.submissions(self.results)
            submission = SlurmSubmission(
                number=earlier[-1].number + 1 if earlier else 1,
                name=name,
                sweep=self.sweep,
                command=self.command,
                submitted=now(),
                jobs={f"{array}_{index}": attempt_counts for index, attempt_counts in enumerate(made)},
                conf=os.environ.get("SLURM_CONF"),
            )
            if self.report_arguments:
                report = self._submit_report(executor, name, array)
                submission = submission.model_copy(update={"report": report})
            write_json(executor.folder / "submission.json", submission.model_dump(mode="json"))
        return submission

    def _array_command(self, executor: CommandExecutor) -> str:
        """Return the command of every job of an array; the shell on the node fills in the index of the job."""
        return work_command(executor.python, f"{shlex.quote(str(executor.folder))}/pack-$SLURM_ARRAY_TASK_ID.json")

    def _job_execution(self) -> Execution:
        """Return the execution of a job: its runs share its CPUs."""
        return self.execution.model_copy(update={"share": self.profile.cpus})

    def _executor(self, name: str, runs: Sequence[Run]) -> CommandExecutor:
        executor = CommandExecutor(slurm_client.submissions_folder(self.results) / name, python=self.profile.python)
        parameters = self.profile.submitit_parameters(name)
        if self.profile.gpus is None and (count := gpus(runs, self.execution)):
            parameters["gpus_per_node"] = count
        if self.profile.memory_gb is None:
            parameters["mem"] = f"{memory_gb(runs, self.execution)}G"
        if self.profile.requeue:
            parameters["teardown"] = _requeue_lines(self.profile.max_requeues)
        executor.update_parameters(**parameters)
        return executor

    def _submit_report(self, array_executor: CommandExecutor, name: str, array: str) -> str:
        """Submit the job that collects the results once every job of an array has ended; return its id."""
        executor = CommandExecutor(array_executor.folder, python=self.profile.python)
        not_inherited = ("gpus_per_node", "teardown", "map_count")
        parameters = {key: v for key, v in array_executor.parameters.items() if key not in not_inherited}
        parameters |= {"job_name": f"{name}-report", "time": min(self.profile.time_minutes, REPORT_MINUTES)}
        parameters |= {"mem": REPORT_MEMORY, "dependency": f"afterany:{array}"}
        executor.update_parameters(**parameters)
        return executor.submit_command(f"{executor.python} -u -m bench {shlex.join(self.report_arguments)}")


def _split(runs: Sequence[Run], size: int) -> list[Sequence[Run]]:
    return [runs[i : i + size] for i in range(0, len(runs), size)]


def _pack_file(folder: Path, index: int) -> Path:
    return folder / f"pack-{index}.json"


def _requeue_lines(times: int) -> list[str]:
    """Return the end of a job's script, which queues a job that was told to stop or was killed again, so many times.

    Exit codes above 128 are deaths by a signal. SIGTERM comes from Slurm, which then decides itself what is next.
    """
    return [
        "code=$?",
        f"if {{ [ $code -eq {REQUEUE} ] || [ $code -gt 128 ]; }} && [ $code -ne {TERMINATED} ] "
        f'&& [ "${{SLURM_RESTART_COUNT:-0}}" -lt {times} ]; then',
        '  for second in 1 5 15 60; do scontrol requeue "$SLURM_JOB_ID" && break; sleep $second; done',
        "fi",
        "exit $code",
    ]


@contextmanager
def _submission_lock(results: Path) -> Iterator[None]:
    """Let one process at a time read the queue and submit what is not in it."""
    observer = ClaimObserver()
    while (lease := acquire(slurm_client.submissions_folder(results) / "submitting", observer)) is None:
        time.sleep(0.5)
    with lease:
        yield


@contextmanager
def _refusal_as_usage_error() -> Iterator[None]:
    try:
        yield
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
        raise UsageError(f"sbatch refuses the jobs: {' '.join(lines[-1].split())}; change the profile") from None
