"""What every benchmark measures: rounds that take turns with a rival, the machine's rates, and peak memory.

- A contest runs the rival before every round of ours, so that a machine that becomes slower is slower for both. The
  ratio is that of the two medians.
- The matrix rate is the median rate of float32 products of the size that a layer of BART-base has on a batch of 16,
  measured in the same rounds.
- The peak memory of a step is the highest number of bytes that torch's allocator holds during a forward and backward
  pass and an update, less what it holds before, plus the optimiser's state. So everything but the model's own weights
  counts: what autograd keeps, gradients, optimiser state, and the largest temporary tensors. The profiler reports every
  single allocation; resident memory, which also has what the allocator keeps back, is not looked at.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROWS, INNER, COLUMNS = 896, 768, 3072  # 16 examples of 56 tokens, and the feed-forward network of BART-base
OPERATIONS = 2 * ROWS * INNER * COLUMNS  # an addition counts as one


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def contest(
    benchmark: Any,
    ours: Callable[[], Any],
    rival: Callable[[], Any],
    rounds: int,
    *,
    rival_name: str,
    examples: int,
    operations: float = 0.0,
    at_most: float | None = None,
) -> None:
    """Measure a call and its rival in turn; what is computed from both goes into the benchmark's ``extra_info``.

    Args:
        benchmark: the fixture, which keeps the times of ours.
        ours, rival: what is measured, after one call of each that is not.
        rounds: how often each is measured.
        rival_name: what tables call the rival.
        examples: how many examples a call works on.
        operations: how many operations of matrix products a call needs; 0 where it is about something else.
        at_most: the bar for the ratio of ours to the rival.
    """
    rival()
    ours()
    times: list[float] = []
    products: list[float] = []

    def take_turns() -> None:
        if operations:
            products.extend(seconds(product) for _ in range(3))
        times.append(seconds(rival))

    product = matrix_product()
    benchmark.pedantic(ours, setup=take_turns, rounds=rounds)
    median, other = statistics.median(benchmark.stats.stats.data), statistics.median(times)
    benchmark.extra_info |= {
        "examples_per_second": examples / median,
        "rival": rival_name,
        "rival_seconds": other,
        "ratio": median / other,
    }
    if at_most is not None:
        set_bar(benchmark, f"time to that of {rival_name}", median / other, at_most=at_most)
    if operations:
        rate = OPERATIONS / statistics.median(products)
        benchmark.extra_info |= {"matrix_rate": rate, "fraction": operations / median / rate}


def set_bar(
    benchmark: Any, figure: str, value: float, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """Note a figure that has a bar; nothing fails where it is not met, because a machine may be busy."""
    bar = {"figure": figure, "value": value, "at_most": at_most, "at_least": at_least}
    benchmark.extra_info.setdefault("bars", []).append(bar)


def matrix_product() -> Callable[[], Any]:
    """Return the product of matrices with which the machine's rate is measured: OPERATIONS operations in float32."""
    a, b = torch.randn(ROWS, INNER), torch.randn(INNER, COLUMNS)
    return lambda: a @ b


def peak_bytes(step: Callable[[], Any]) -> int:
    """Return the highest number of bytes that torch holds on the CPU during a call, above those it holds before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        held += change
        peak = max(peak, held)
    return peak


#: kinds of work of a step, and the operations of torch that do it
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "dropout": ("bernoulli_", "native_dropout", "native_dropout_backward"),
    "copies": ("copy_", "cat", "index_select", "index_copy_", "fill_"),
}


def shares_of_work(step: Callable[[], Any]) -> dict[str, float]:
    """Return the share of a call's time on the CPU that goes into each of ``KINDS``, and into everything else."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    seconds_of = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    total = sum(seconds_of.values())
    shares = {
        kind: sum(seconds_of.get(f"aten::{operation}", 0.0) for operation in operations) / total
        for kind, operations in KINDS.items()
    }
    return {**shares, "other": 1.0 - sum(shares.values())}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimiser's state."""
    tensors = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    return sum(t.nbytes for t in tensors)
