"""Jobs that wait for more than their turn: what Slurm says of them and what would help. Those that Slurm holds after a
failed launch are released."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from bench.events import Listener, RunEvent
from bench.sweep import slurm_client
from bench.sweep.slurm_client import QueuedJob
from bench.sweep.slurm_reasons import describe, explain

#: Seconds between a launch of a job that failed, the first, second, ..., and its release; then it stays held.
RELEASE_SECONDS = (0.0, 30.0, 120.0)
SAY_AGAIN_SECONDS = 600.0


class WaitingJobs:
    """Looks at the jobs of a sweep in the queue, again and again, and reports what keeps them there."""

    def __init__(self, report: Listener, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._noted: dict[str, float] = {}  # reason -> when it was reported last
        self._releases: dict[str, int] = defaultdict(int)
        self._held_since: dict[str, float] = {}

    def look(self, jobs: Iterable[QueuedJob]) -> None:
        """Report reasons that do not pass by themselves, and release what is held after a failed launch."""
        by_reason: dict[str, list[QueuedJob]] = defaultdict(list)
        for job in jobs:
            by_reason[job.reason].append(job)
        held = {job.id for reason, group in by_reason.items() if _is_after_launch(reason) for job in group}
        self._held_since = {job: since for job, since in self._held_since.items() if job in held}
        for reason, group in sorted(by_reason.items()):
            if explain(reason) is None:
                continue
            due = [job for job in group if job.id in held and self._is_due(job.id)]
            for conf in {job.conf for job in due}:
                slurm_client.release({job.id for job in due if job.conf == conf}, conf)
            for job in due:
                self._releases[job.id] += 1
                del self._held_since[job.id]
            effect = f" ({len(due)} released, to be tried again)" if due else ""
            if due or self._clock() - self._noted.get(reason, -math.inf) >= SAY_AGAIN_SECONDS:
                self._noted[reason] = self._clock()
                words = describe(reason, sorted(job.id for job in group))
                self._report(RunEvent("note", "", f"{len(group)} jobs wait{effect}: {words}"))

    def _is_due(self, job: str) -> bool:
        """Return whether a job that is held after a failed launch is to be released now."""
        since, releases = self._held_since.setdefault(job, self._clock()), self._releases[job]
        return releases < len(RELEASE_SECONDS) and self._clock() - since >= RELEASE_SECONDS[releases]


def _is_after_launch(reason: str) -> bool:
    waiting = explain(reason)
    return waiting is not None and waiting.after_launch
