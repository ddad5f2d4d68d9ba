"""Runs that Slurm has lost: nobody works on them, no job of theirs is queued, and yet they are not settled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.config import Run
from bench.run_dir import RunDir
from bench.sweep import attempts, slurm_client
from bench.sweep.attempts import Attempt
from bench.sweep.slurm_client import AccountedJob, SubmittedJob

STOPPED_ON_PURPOSE = ("CANCELLED", "SIGTERM", "SIGINT")  # a state of Slurm's accounting, or the reason of an attempt
#: Seconds for which the jobs of the first, second, ... automatic submission without progress wait before they may
#: begin; after the last one a run is given up.
BACK_OFF_SECONDS = (0, 30, 120, 480)


@dataclass(frozen=True)
class Fate:
    """What became of a run that is neither settled nor running nor queued.

    Attributes:
        kind: ``lost`` where it should be submitted again; ``stopped`` by a person; ``broken`` where its job ended by
            its own fault, so that another would end alike; ``unclear`` where nothing says what happened.
        text: what is on record about it.
    """

    kind: Literal["lost", "stopped", "broken", "unclear"]
    text: str


def fates(results: Path, runs: Sequence[Run], submitted: dict[str, SubmittedJob]) -> dict[str, Fate]:
    """Return what became of runs that are neither running nor queued, by the ids of the runs.

    A run is lost if its attempt since its submission has died, and nobody has stopped it on purpose, or if its job
    ended, or vanished from the queue, before there was any attempt. Slurm's accounting tells a cancelled job from one
    that died; without accounting, an attempt that received SIGTERM counts as cancelled. A run that was never submitted
    was another executor's.
    """
    accounted = slurm_client.accounted_jobs(submitted[run.id] for run in runs if run.id in submitted)
    return {run.id: _fate(results, run, submitted.get(run.id), accounted) for run in runs}


def lost_runs(results: Path, runs: Sequence[Run], submitted: dict[str, SubmittedJob]) -> list[Run]:
    """Return those of some runs, which are neither running nor queued, that are lost (:func:`fates`)."""
    verdicts = fates(results, runs, submitted)
    return [run for run in runs if verdicts[run.id].kind == "lost"]


def _fate(results: Path, run: Run, job: SubmittedJob | None, accounted: dict[str, AccountedJob]) -> Fate:
    made = attempts.read(RunDir(results, run.id))
    ended = accounted.get(job.id) if job else None
    if len(made) > (job.attempts_before if job else 0):
        return _fate_of_attempt(made[-1], ended)
    if job is None:
        return Fate("unclear", "it was never submitted to Slurm")
    log = slurm_client.submissions_folder(results) / job.submission.name / f"{job.id}_0_log.err"
    where = f"; see {log}" if log.exists() else ""
    if ended is None:
        return Fate("unclear", f"its job {job.id} is gone, and Slurm's accounting has no trace of it{where}")
    if ended.state in STOPPED_ON_PURPOSE:
        return Fate("stopped", f"its job {job.id} was cancelled before the run began")
    if ended.state == "FAILED" and 0 < ended.code <= 128:
        return Fate("broken", f"its job {job.id} failed with exit code {ended.code} before the run began{where}")
    return Fate("lost", f"its job {job.id} ended ({ended.state}) before the run began{where}")


def _fate_of_attempt(attempt: Attempt, ended: AccountedJob | None) -> Fate:
    process = f"attempt {attempt.number} on {attempt.host}"
    if attempt.outcome == "failed":
        return Fate("broken", f"{process} failed: {attempt.reason}")
    if (ended.state if ended else attempt.reason) in STOPPED_ON_PURPOSE:
        return Fate("stopped", f"{process} was stopped ({ended.state if ended else attempt.reason})")
    state = f", Slurm says {ended.state} of its job" if ended else ""
    return Fate("lost", f"{process} ended ({attempt.reason or 'killed'}{state})")


def automatic_submissions(results: Path, runs: Iterable[str]) -> dict[str, int]:
    """Return how often each run was submitted automatically in a row without any progress since.

    Progress is a new checkpoint. A submission that somebody typed begins the count anew.
    """
    ids = set(runs)
    counts = dict.fromkeys(ids, 0)
    for submission in slurm_client.submissions(results):
        for run, before in ((run, n) for pack in submission.jobs.values() for run, n in pack.items() if run in ids):
            fruitless = submission.automatic and not _has_progressed(RunDir(results, run), before)
            counts[run] = counts[run] + 1 if fruitless else 0
    return counts


def _has_progressed(run_dir: RunDir, attempts_before: int) -> bool:
    """Return whether a run has a newer checkpoint than the first attempt after so many others began from."""
    since = attempts.read(run_dir)[attempts_before:]
    return len({*(attempt.checkpoint for attempt in since), attempts.checkpoint_time(run_dir)}) > 1 if since else False


def hopeless(results: Path, runs: Iterable[str]) -> set[str]:
    """Return those of some runs that were submitted automatically as often as is worth it."""
    return {run for run, count in automatic_submissions(results, runs).items() if count >= len(BACK_OFF_SECONDS)}


def delay(results: Path, runs: Iterable[str]) -> int:
    """Return for how many seconds the jobs of the next automatic submission of runs wait before they may begin."""
    most = max(automatic_submissions(results, runs).values(), default=0)
    return BACK_OFF_SECONDS[min(most, len(BACK_OFF_SECONDS) - 1)]
