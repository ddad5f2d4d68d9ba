"""Batches made ahead: the same order with any number of threads, bounded, and gone when training stops."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bench import run_data
from bench.config import Execution, resolve
from bench.data import batches
from bench.data.prefetch import Prefetcher
from bench.errors import UsageError
from bench.events import RunEvent, RunHold
from bench.run import run_one


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def slow(number: int) -> int:
    time.sleep(0.002 * (number % 3))
    return number


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    assert not threads()


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("start", [0, 7])
def test_results_come_in_the_order_of_the_jobs_from_any_start(workers: int, start: int) -> None:
    results = Prefetcher((partial(slow, number) for number in range(start, 20)), workers=workers)
    assert list(results) == list(range(start, 20))
    results.close()


@pytest.mark.parametrize("workers", [0, 3])
def test_an_exception_comes_where_its_result_would_and_ends_the_threads(workers: int) -> None:
    def faulty() -> int:
        raise UsageError("images/7.h5: no such feature file")

    jobs: list[Callable[[], int]] = [*(partial(slow, number) for number in range(4)), faulty, partial(slow, 5)]
    results = Prefetcher(jobs, workers=workers)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(UsageError, match=r"images/7\.h5"):
        next(results)
    results.close()


def test_no_more_results_exist_than_were_asked_for() -> None:
    begun: list[int] = []

    def count(number: int) -> int:
        begun.append(number)
        return number

    results = Prefetcher((partial(count, number) for number in range(1000)), workers=3, ahead=4)
    for taken in range(10):
        assert next(results) == taken
        time.sleep(0.005)
        assert len(begun) <= taken + 4
    results.close()
    assert len(begun) <= 13


def test_closing_does_not_wait_for_jobs_that_were_not_begun() -> None:
    results = Prefetcher((partial(time.sleep, 0.1) for _ in range(100)), workers=1, ahead=50)
    next(results)
    begun = time.monotonic()
    results.close()
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(("is_busy", "least", "most"), [(False, 0.04, 1.0), (True, 0.0, 0.02)])
def test_waiting_counts_where_the_device_has_nothing_to_do(is_busy: bool, least: float, most: float) -> None:
    results = Prefetcher([partial(time.sleep, 0.05)], workers=1, is_busy=lambda: is_busy)
    next(results)
    assert least <= results.wait_seconds <= most
    results.close()


@pytest.mark.parametrize("interrupted_at", [None, 3])
def test_a_run_that_makes_batches_ahead_is_the_same_run(
    interrupted_at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolve(method="lora", backbone="mini-bart", suite="image-text", settings={"steps": 6, "limit": 12})
    losses = []
    for number, kept_bytes in enumerate((batches.PREFETCH_BYTES, 0)):
        run_data.tokenized_split.cache_clear()
        monkeypatch.setattr(batches, "PREFETCH_BYTES", kept_bytes)
        hold, seen = RunHold(), []

        def listen(event: RunEvent, hold: RunHold = hold, seen: list[float | None] = seen) -> None:
            if event.kind == "step":
                seen.append(event.loss)
                hold.stop = "asked" if len(seen) == interrupted_at else None
                assert bool(threads()) == (batches.PREFETCH_BYTES == 0)

        if interrupted_at:
            with pytest.raises(KeyboardInterrupt):
                run_one(run, Execution(), tmp_path / str(number), listen, hold)
            assert not threads() and len(seen) == interrupted_at
            hold.stop = None
        record = run_one(run, Execution(), tmp_path / str(number), listen, hold)
        assert record.time["data_wait_seconds"] > 0 and 0 < record.time["data_wait_share"] < 1
        losses.append(seen)
    run_data.tokenized_split.cache_clear()
    assert losses[0] == losses[1] and len(losses[0]) == 6
