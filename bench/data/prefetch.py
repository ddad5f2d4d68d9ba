"""Making batches ahead of the step that needs them, in threads, and measuring how long steps wait for them.

Threads, because rows of a pack are memory: copying and verifying them releases Python's lock, so that threads read as
fast as processes would, and a batch needs no copy between processes. Files in h5 format have one lock for all threads
of a process (HDF5's), so that there threads overlap reading with the step but not with each other: what they cost more
than a pack is Python's, which processes would not make faster than ``data pack`` does.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

WORKERS = min(4, os.cpu_count() or 1)
AHEAD = 4  # results that are made or being made before they are needed; each is as large as a batch
POLL_SECONDS = 0.001


class Prefetcher(Generic[T], Iterator[T]):
    """Iterates over the results of jobs in their order, whatever the number of threads that make them.

    No more than ``ahead`` results exist besides the one that was taken last. An exception of a job is raised where its
    result would have been. :meth:`close` waits for the jobs in progress and begins no other.

    Args:
        jobs: functions without arguments; the iterable itself is consumed by the thread that takes the results.
        workers: number of threads; with 0 every job is done when its result is taken.
        ahead: number of jobs that are begun before their results are taken.
        is_busy: whether the device still has work, so that waiting costs nothing yet.

    Attributes:
        wait_seconds: how long the taking thread has waited, while the device had nothing to do.
    """

    def __init__(
        self,
        jobs: Iterable[Callable[[], T]],
        *,
        workers: int = WORKERS,
        ahead: int = AHEAD,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.wait_seconds = 0.0
        self._jobs = iter(jobs)
        self._ahead = ahead
        self._is_busy = is_busy
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch") if workers else None
        self._pending: deque[Future[T]] = deque()

    def __next__(self) -> T:
        if self._pool is None:
            begun = time.perf_counter()
            result = next(self._jobs)()
        else:
            self._begin_jobs(self._pool)
            if not self._pending:
                raise StopIteration
            future = self._pending.popleft()
            while not future.done() and self._is_busy():
                wait([future], POLL_SECONDS)
            begun = time.perf_counter()
            result = future.result()
        self.wait_seconds += time.perf_counter() - begun
        return result

    def _begin_jobs(self, pool: ThreadPoolExecutor) -> None:
        while len(self._pending) < self._ahead and (job := next(self._jobs, None)) is not None:
            self._pending.append(pool.submit(job))

    def close(self) -> None:
        """End the threads and drop the results that were not taken."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pending.clear()


class QueuedWork:
    """The work that a GPU was given and has not done yet; other devices never have any."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None

    def mark(self) -> None:
        """Remember what the GPU has been given until now."""
        if self._event is not None:
            self._event.record()

    def is_pending(self) -> bool:
        """Return whether the GPU has not done all work that was given to it until the last mark."""
        return self._event is not None and not self._event.query()
