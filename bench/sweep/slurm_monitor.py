"""Watching runs that were submitted to Slurm, and submitting again what Slurm has lost."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.config import Run
from bench.events import Listener, RunEvent
from bench.run_dir import RunDir
from bench.states import StateName
from bench.sweep import attempts, slurm_client
from bench.sweep.run_follower import RunFollower
from bench.sweep.slurm import SlurmSubmitter
from bench.sweep.slurm_client import SlurmSubmission, SubmittedJob

POLL_SECONDS = 2.0
QUEUE_SECONDS = 10.0  # between two requests to Slurm
CLEANUP_LOOKS = 10  # at the queue, before a job that has nothing left to do is cancelled
STOPPED_ON_PURPOSE = ("CANCELLED", "SIGTERM", "SIGINT")  # a state of Slurm's accounting, or the reason of an attempt


class SlurmMonitor:
    """Watches submitted runs until they are settled: reports their progress and submits again what Slurm has lost."""

    def __init__(
        self, submitter: SlurmSubmitter, runs: Sequence[Run], submitted: Sequence[SlurmSubmission], report: Listener
    ) -> None:
        self._submitter = submitter
        self._submissions = list(submitted)
        self._runs = {run.id: run for run in runs}
        self._report = report
        self._follower = RunFollower(runs, submitter.results, report, submitter.retry)
        self._missing: set[str] = set()
        self._queue_read = -QUEUE_SECONDS

    def wait(self) -> None:
        """Return when every run is settled, or when none is running or queued any more."""
        while unsettled := self._follower.look():
            if time.monotonic() - self._queue_read > QUEUE_SECONDS:
                self._queue_read = time.monotonic()
                if not self._check_queue(unsettled):
                    return
            time.sleep(POLL_SECONDS)
        self._cancel_leftover_jobs()

    def _check_queue(self, unsettled: dict[str, StateName]) -> bool:
        """Submit runs whose jobs have died again; return whether there is anything left to wait for."""
        results = self._submitter.results
        submitted = {run: job for run, job in slurm_client.submitted_jobs(results).items() if run in unsettled}
        queue = slurm_client.queued_jobs(job.submission for job in submitted.values())
        if queue is None:
            return True
        running = {run for run, name in unsettled.items() if name == "running"}
        missing = set(unsettled) - running - {run for run, job in submitted.items() if job.id in queue}
        # On a shared file system the record of a run may appear later than its job leaves the queue: only a run that
        # was missing at the last look too counts as lost.
        missing_twice, self._missing = missing & self._missing, missing
        if lost := lost_runs(results, [self._runs[run] for run in missing_twice], submitted):
            self._report(RunEvent("note", "", f"the jobs of {len(lost)} runs have died; submitting these again"))
            try:
                self._submissions += self._submitter.submit(lost)
            except slurm_client.SlurmUnavailable as fault:  # it went away a moment ago; a later look may find it back
                self._report(RunEvent("note", "", str(fault)))
            return True
        return missing != set(unsettled) or missing_twice != missing

    def _cancel_leftover_jobs(self) -> None:
        """Cancel jobs with nothing left to do: report jobs, whose work this process does, and jobs that hang."""
        for submission in self._submissions:
            slurm_client.cancel({submission.report} if submission.report else set(), submission.conf)
        submitted = slurm_client.submitted_jobs(self._submitter.results)
        jobs = [job for run, job in submitted.items() if run in self._runs]
        for submission in {job.submission.name: job.submission for job in jobs}.values():
            leftover: set[str] = set()
            for _ in range(CLEANUP_LOOKS):
                queue = slurm_client.queued_jobs([submission]) or {}
                ours = {job for job, runs in submission.jobs.items() if runs.keys() <= self._runs.keys()}
                leftover = ours & queue.keys()
                if not leftover:
                    break
                time.sleep(POLL_SECONDS)
            slurm_client.cancel(leftover, submission.conf)


def lost_runs(results: Path, runs: Sequence[Run], submitted: dict[str, SubmittedJob]) -> list[Run]:
    """Return those runs, of some that are neither running nor queued, that should be submitted again.

    A run is lost if its attempt since its submission has died, and nobody has stopped it on purpose. A run without such
    an attempt is lost only if Slurm's accounting still expects its job, for then the controller has forgotten it. The
    accounting also tells a cancelled job from one that died; without accounting, an attempt that received SIGTERM
    counts as cancelled. A run that was never submitted was another executor's.
    """
    states = slurm_client.accounted_states(submitted[run.id] for run in runs if run.id in submitted)
    return [run for run in runs if _is_lost(results, run, submitted.get(run.id), states)]


def _is_lost(results: Path, run: Run, job: SubmittedJob | None, states: dict[str, str]) -> bool:
    made = attempts.read(RunDir(results, run.id))
    accounted = states.get(job.id, "") if job else ""
    if len(made) > (job.attempts_before if job else 0):
        return made[-1].outcome != "failed" and (accounted or made[-1].reason) not in STOPPED_ON_PURPOSE
    return accounted in ("PENDING", "RUNNING", "REQUEUED")
