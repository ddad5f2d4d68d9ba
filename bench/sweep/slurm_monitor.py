"""Watching runs that were submitted to Slurm, and submitting again what Slurm has lost."""

import time
from collections.abc import Sequence
from contextlib import suppress

from bench.config import Run
from bench.events import Listener, RunEvent
from bench.run_dir import RunDir
from bench.states import StateName
from bench.sweep import slurm_client, slurm_lost
from bench.sweep.claim_files import current
from bench.sweep.claims import ClaimObserver
from bench.sweep.run_follower import RunFollower
from bench.sweep.run_state import state
from bench.sweep.slurm import SlurmSubmitter
from bench.sweep.slurm_client import SlurmRefusal, SlurmSubmission, SlurmUnavailable, SubmittedJob
from bench.sweep.slurm_lost import lost_runs
from bench.sweep.slurm_waiting import WaitingJobs

POLL_SECONDS = 2.0
QUEUE_SECONDS = 10.0  # between two requests to Slurm
REFUSED_SECONDS = 60.0  # between two tries to submit what Slurm takes no more of
REFUSALS_MOST = 10  # of these tries, where no other job of the sweep is left whose end could make room
VERDICT_SECONDS = 600.0  # for which the collecting job waits at most to learn whether owners of runs are alive
CLEANUP_LOOKS = 10  # at the queue, before a job that has nothing left to do is cancelled


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
        self._waiting = WaitingJobs(report)
        # The runs that have had a job, or another process, since this process looks on.
        self._taken = {run for submission in submitted for pack in submission.jobs.values() for run in pack}
        self._missing: set[str] = set()
        self._queue_read = -QUEUE_SECONDS
        self._silent = False
        self._refused_at = -REFUSED_SECONDS
        self._refusals = 0
        self._given_up: dict[str, str] = {}

    def wait(self) -> list[str]:
        """Return when every run is settled, or when none is running or queued any more.

        Returns:
            Lines that explain why runs were given up.
        """
        while unsettled := self._follower.look():
            if time.monotonic() - self._queue_read > QUEUE_SECONDS:
                self._queue_read = time.monotonic()
                if not self._check_queue(unsettled):
                    return self._explain(unsettled)
            time.sleep(POLL_SECONDS)
        self._cancel_leftover_jobs()
        return []

    def _check_queue(self, unsettled: dict[str, StateName]) -> bool:
        """Submit runs whose jobs have died again; return whether there is anything left to wait for."""
        submitted = self._submitted(unsettled)
        if any(not job.submission.answered for job in submitted.values()):
            with suppress(SlurmUnavailable):  # asked again below
                self._submitter.settle_intentions()
                submitted = self._submitted(unsettled)
        queue = slurm_client.queued_jobs(job.submission for job in submitted.values())
        if queue is None:
            if not self._silent:
                self._report(RunEvent("note", "", "Slurm does not answer; looking on"))
            self._silent = True
            return True
        self._silent = False
        ours = {job.id for job in submitted.values()}
        self._waiting.look(job for job in queue.values() if job.id in ours)
        running = {run for run, name in unsettled.items() if name == "running"}
        queued = {run for run, job in submitted.items() if job.id in queue or not job.submission.answered}
        self._taken |= running | queued
        missing = set(unsettled) - running - queued
        # On a shared file system the record of a run may appear later than its job leaves the queue: only a run that
        # was missing at the last look too counts as lost.
        missing_twice, self._missing = missing & self._missing, missing
        if due := self._to_submit(missing_twice, submitted):
            return self._submit(due, alone=missing == set(unsettled)) or missing != set(unsettled)
        return missing != set(unsettled) or missing_twice != missing

    def _submitted(self, unsettled: dict[str, StateName]) -> dict[str, SubmittedJob]:
        jobs = slurm_client.submitted_jobs(self._submitter.results)
        return {run: job for run, job in jobs.items() if run in unsettled}

    def _to_submit(self, missing: set[str], submitted: dict[str, SubmittedJob]) -> list[Run]:
        """Return the runs that Slurm has lost, and those that it did not take before; not those that are hopeless."""
        results = self._submitter.results
        candidates = [run for id_, run in self._runs.items() if id_ in missing and id_ not in self._given_up]
        lost = {run.id for run in lost_runs(results, candidates, submitted)} | (missing - self._taken)
        given_up = slurm_lost.hopeless(results, lost)
        for run in given_up:
            times = len(slurm_lost.BACK_OFF_SECONDS)
            self._given_up[run] = f"submitted {times} times more without any progress; given up"
        return [run for run in candidates if run.id in lost - given_up]

    def _submit(self, runs: list[Run], *, alone: bool) -> bool:
        """Submit runs again; return whether any of them may still be done. ``alone``: no other run is open."""
        if time.monotonic() - self._refused_at < REFUSED_SECONDS:
            return True
        ids = {run.id for run in runs}
        if died := len(ids & self._taken):
            self._report(RunEvent("note", "", f"the jobs of {died} runs have died; submitting these again"))
        try:
            sent = self._submitter.submit(runs, self._follower.observer, automatic=bool(died))
        except SlurmUnavailable as fault:  # it went away a moment ago; a later look may find it back
            self._report(RunEvent("note", "", str(fault)))
        except SlurmRefusal as refusal:
            self._refused_at, self._refusals = time.monotonic(), self._refusals + alone
            self._report(RunEvent("note", "", str(refusal)))
            if not refusal.is_for_their_number or self._refusals >= REFUSALS_MOST:
                self._given_up |= dict.fromkeys(ids, str(refusal))
                return False
        else:
            self._submissions += sent
            accepted = {run for submission in sent for pack in submission.jobs.values() for run in pack}
            self._taken |= accepted
            if ids - accepted:
                self._refused_at = time.monotonic()
        return True

    def _explain(self, unsettled: dict[str, StateName]) -> list[str]:
        """Say of each run that is neither settled nor waited for what became of it, and what would help."""
        runs = [run for id_, run in self._runs.items() if id_ in unsettled]
        fates = slurm_lost.fates(self._submitter.results, runs, self._submitted(unsettled))
        return [
            "; ".join(text for text in (f"{run.id}: {fates[run.id].text}", self._given_up.get(run.id, "")) if text)
            for run in runs
        ]

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


def collect(submitter: SlurmSubmitter, runs: Sequence[Run], report: Listener) -> bool:
    """Submit those runs again whose jobs have died, as the last job of a sweep does; return whether there were any.

    Owners of runs on other hosts are looked at until they are known to live or to be dead.
    """
    results, observer, deadline = submitter.results, ClaimObserver(), time.monotonic() + VERDICT_SECONDS
    while any(_is_unclear(RunDir(results, run.id), observer) for run in runs) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    states = {run: state(results, run, observer) for run in runs}
    left = [run for run, now in states.items() if now.name != "running" and not now.is_settled(submitter.retry)]
    submitted = slurm_client.submitted_jobs(results)
    fates = slurm_lost.fates(results, left, submitted)
    hopeless = slurm_lost.hopeless(results, (run.id for run in left))
    for run in left:
        report(RunEvent("note", run.id, f"{run.id}: {fates[run.id].text}"))
    lost = [run for run in left if fates[run.id].kind == "lost" and run.id not in hopeless]
    try:
        return bool(lost and submitter.submit(lost, observer, automatic=True))
    except SlurmRefusal as refusal:
        report(RunEvent("note", "", str(refusal)))
        return False


def _is_unclear(run_dir: RunDir, observer: ClaimObserver) -> bool:
    claim = current(run_dir.claim)
    return claim is not None and claim.held and observer.verdict(claim) == "unknown"
