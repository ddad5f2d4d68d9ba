"""Submitting sweeps to Slurm as job arrays, through Submitit.

Submitit renders the scripts of command lines. What has become of a run is read from the results folder, never from
Slurm's states. A job works through its runs; where it was told to stop or was killed, its script asks Slurm to start it
again.
"""

import os
import re
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import submitit

from bench.config import Execution, Run
from bench.files import explain_write_errors, write_bytes
from bench.record_schema import now
from bench.run_dir import RunDir
from bench.states import DEFAULT_RETRY, RetryPolicy
from bench.sweep import attempts, slurm_client, slurm_intentions, slurm_lost
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.profile import Profile
from bench.sweep.resource_estimate import gpus, memory_gb
from bench.sweep.run_state import state
from bench.sweep.slurm_client import UNANSWERED, SlurmRefusal, SlurmSubmission, SlurmUnavailable
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
        """Return the sbatch script of a command; ``array`` is the number of jobs of an array.

        The paths of the logs are given anew, because Submitit leaves a ``%`` in the folder for Slurm to replace, and
        the signal, because a variable of Submitit in the environment changes it.
        """
        place = f"{str(self.folder).replace('%', '%%')}/{'%j' if array is None else '%A_%a'}_0_log"
        logs = {"output": f"{place}.out", "error": f"{place}.err"}
        extra = {**self.parameters.get("additional_parameters", {}), **logs}
        extra["signal"] = f"USR2@{self.parameters['signal_delay_s']}"
        self.parameters |= {"map_count": array, "use_srun": False, "additional_parameters": extra}
        words = ["srun", "--unbuffered", *(f"--{key}={path}" for key, path in logs.items())]
        srun = shlex.join([*words, *self.parameters.get("srun_args", ())])
        return self._make_submission_file_text(f"{srun} {command}", "")

    def submit_command(self, command: str, array: int | None = None) -> str:
        """Submit a command and return the id of the job or array.

        Raises:
            SlurmRefusal: sbatch does not take the job.
            SlurmUnavailable: Slurm does not answer; it may have taken the job all the same.
        """
        file = self.folder / f"{'job' if array is None else 'array'}.sh"
        write_bytes(file, self.script(command, array).encode())
        answer = slurm_client.sbatch(file)
        try:
            return self._get_job_id_from_submission_command(answer)
        except submitit.core.utils.FailedSubmissionError:
            raise SlurmUnavailable(f"sbatch answers nonsense ({answer.strip()[:100]!r})") from None


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

    def submit(
        self, runs: Sequence[Run], observer: ClaimObserver | None = None, *, automatic: bool = False
    ) -> list[SlurmSubmission]:
        """Submit those runs that are neither queued nor executed, as one job array, or several if it is too large.

        Where Slurm takes no more jobs of this user for now, the rest is left; it takes part in the next call.

        Args:
            runs: the runs to submit.
            observer: one that has looked at the claims before can tell a dead owner on another host from a living one.
            automatic: whether nobody typed this, but something was lost. After an automatic submission that led
                nowhere the jobs of the next one wait (:data:`bench.sweep.slurm_lost.BACK_OFF_SECONDS`).

        Raises:
            SlurmUnavailable: Slurm does not answer.
            SlurmRefusal: Slurm takes none of the jobs.
            UsageError: the results folder cannot be written.
        """
        with _submission_lock(self.results):
            slurm_intentions.settle(self.results)
            free = self._free_runs(runs, observer or ClaimObserver())
            pack = self.profile.pack
            limit = (slurm_client.config_number("MaxArraySize") or DEFAULT_ARRAY_LIMIT) * pack
            sent: list[SlurmSubmission] = []
            while free:
                try:
                    sent.append(self._submit_array(free[:limit], automatic))
                    free = free[limit:]
                except SlurmRefusal as refusal:
                    if refusal.is_for_their_number and len(free[:limit]) > pack:
                        limit = max(1, len(free[:limit]) // pack // 2) * pack
                    elif refusal.is_for_their_number and sent:
                        break
                    else:
                        raise
            return sent

    def settle_intentions(self) -> None:
        """Look up what became of submissions whose answer was never written down.

        Raises:
            SlurmUnavailable: Slurm does not answer.
        """
        with _submission_lock(self.results):
            slurm_intentions.settle(self.results)

    def _free_runs(self, runs: Sequence[Run], observer: ClaimObserver) -> list[Run]:
        unsettled = [run for run in runs if not state(self.results, run, observer).is_settled(self.retry)]
        ids = {run.id for run in unsettled}
        submitted = {run: job for run, job in slurm_client.submitted_jobs(self.results).items() if run in ids}
        queue = slurm_client.queued_jobs(job.submission for job in submitted.values())
        if queue is None:
            raise SlurmUnavailable(slurm_client.SILENT)
        queued = {run for run, job in submitted.items() if job.id in queue or not job.submission.answered}
        # The states are read again: a job may have left the queue because it has just finished or begun its run.
        return [
            run
            for run in unsettled
            if run.id not in queued
            and (current := state(self.results, run, observer)).name != "running"
            and not current.is_settled(self.retry)
        ]

    def _submit_array(self, runs: Sequence[Run], automatic: bool) -> SlurmSubmission:
        """Write the intention, submit the runs, write what sbatch has answered, and submit the report job."""
        word = re.sub("[^A-Za-z0-9._-]+", "-", self.sweep)  # squeue would split a name at commas
        name = f"{word}-{time.strftime('%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        executor = self._executor(name, runs)
        if automatic and (seconds := slurm_lost.delay(self.results, [run.id for run in runs])):
            executor.parameters["additional_parameters"]["begin"] = f"now+{seconds}"
        packs = _split(runs, self.profile.pack)
        with explain_write_errors(executor.folder):
            executor.folder.mkdir(parents=True)
            for index, pack in enumerate(packs):
                execution, retry = self._job_execution(), self.retry.name
                content = Pack(runs=tuple(pack), execution=execution, results=self.results, retry=retry)
                content.write(_pack_file(executor.folder, index))
            made = [{run.id: len(attempts.read(RunDir(self.results, run.id))) for run in pack} for pack in packs]
            earlier = slurm_client.submissions(self.results)
            submission = SlurmSubmission(
                number=earlier[-1].number + 1 if earlier else 1,
                name=name,
                sweep=self.sweep,
                command=self.command,
                submitted=now(),
                jobs={f"{UNANSWERED}_{index}": attempt_counts for index, attempt_counts in enumerate(made)},
                conf=os.environ.get("SLURM_CONF"),
                automatic=automatic,
            )
            submission.write(self.results)
            try:
                array = executor.submit_command(self._array_command(executor), len(packs))
            except SlurmRefusal:
                slurm_client.submission_file(self.results, name).unlink()
                raise
            submission = submission.with_array(array)
            submission.write(self.results)
            if self.report_arguments:
                submission = self._with_report(submission, executor, array)
                submission.write(self.results)
        return submission

    def _with_report(self, submission: SlurmSubmission, executor: CommandExecutor, array: str) -> SlurmSubmission:
        """Submit the report job; the array is there whatever becomes of this."""
        try:
            return submission.model_copy(update={"report": self._submit_report(executor, submission.name, array)})
        except (SlurmRefusal, SlurmUnavailable) as fault:
            return submission.model_copy(update={"report_fault": str(fault)})

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
        not_inherited = ("gpus_per_node", "teardown", "map_count", "use_srun")
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
