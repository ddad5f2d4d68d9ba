"""Submissions whose answer was never written down: the driver was killed, or Slurm went silent, while sbatch ran.

Before sbatch is called the intention is written, with a name that no other submission has. By that name the jobs are
found in Slurm's queue or accounting, so that nothing is submitted twice.
"""

from pathlib import Path

from bench.run_dir import RunDir
from bench.sweep import attempts, file_clock, slurm_client
from bench.sweep.slurm_client import SlurmSubmission

#: How old an intention has to be before it counts as one that never reached Slurm: sbatch may outlive the driver that
#: called it, and try for some time to reach its controller.
IN_FLIGHT_SECONDS = slurm_client.SUBMIT_SECONDS + 60


def settle(results: Path) -> None:
    """Write the ids of the jobs into intentions that have reached Slurm, and remove those that never did.

    To be called with the lock of the submissions held.

    Raises:
        SlurmUnavailable: there are such submissions, and Slurm does not answer.
    """
    for submission in slurm_client.submissions(results):
        if submission.answered:
            continue
        array = slurm_client.array_of(submission) or _array_in_attempts(results, submission)
        file = slurm_client.submission_file(results, submission.name)
        if array:
            submission.with_array(array).write(results)
        elif (now := file_clock.now_ns(file.parent)) and now - file.stat().st_mtime_ns > IN_FLIGHT_SECONDS * 1e9:
            file.unlink()


def _array_in_attempts(results: Path, submission: SlurmSubmission) -> str | None:
    """Return the id of the array that the runs' attempts since the submission name, where all name one."""
    arrays = {
        attempt.job.partition("_")[0]
        for job, runs in submission.jobs.items()
        for run, before in runs.items()
        for attempt in attempts.read(RunDir(results, run))[before:]
        if attempt.job and attempt.job.endswith(job.removeprefix(slurm_client.UNANSWERED))
    }
    return arrays.pop() if len(arrays) == 1 else None
