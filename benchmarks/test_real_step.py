"""Training steps at the size of BART-base and their memory, against HF PEFT and the plain path of the same model."""

import time
from pathlib import Path

import pytest
import torch

from bench.data.batches import Batch
from benchmarks.measuring import contest, set_bar, shares_of_work
from benchmarks.steps import BATCHES, Contender, Size, assert_equal_gradients

STEP_BARS = {"lora": 0.85, "ia3": 0.85, "vl-adapter": 0.80, "vl-pet-large": 0.80}
MEMORY_BARS = {"lora": 0.75, "vl-pet-large": 0.70}
MICRO_BAR = 0.35  # of the memory, with parts of a quarter of the batch
BF16_BAR = 0.42  # of the time of the plain path in fp32
WITH_PEFT = ("lora", "ia3")
METHODS = ("lora", "ia3", "vl-adapter", "vl-pet-large")


@pytest.fixture(scope="session")
def size(small: bool) -> Size:
    return Size(small)


@pytest.fixture(scope="module", params=BATCHES)
def batch(request: pytest.FixtureRequest, size: Size) -> Batch:
    return size.make_batch(request.param)


def rival_of(size: Size, method: str, ours: Contender, folder: Path) -> tuple[Contender, str]:
    """HF PEFT where it has the method, else the plain path, with the same weights as ours."""
    rival = Contender(size, method, path="plain")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for name, tensor in ours.handle.trained().items():  # LoRA starts from no change, in which all LoRAs are equal
            tensor += 0.01 * torch.randn(tensor.shape, generator=generator)
            rival.handle.trained()[name].copy_(tensor)
    if method not in WITH_PEFT:
        return rival, "plain path"
    ours.handle.export_peft(folder)
    return rival.rival_of_peft(folder), "HF PEFT"


def group(batch: Batch) -> str:
    longest = batch.labels.shape[1]
    noun = "captions" if batch.task == "caption" else "questions"
    return f"training step, {len(batch.ids)} {noun}, answers of up to {longest} tokens"


def run(
    benchmark,
    ours: Contender,
    rival: Contender,
    batch: Batch,
    rounds: int,
    rival_name: str,
    at_most: float | None = None,
) -> None:
    """Measure updates of two contenders in turn."""
    contest(
        benchmark,
        lambda: ours.update(batch),
        lambda: rival.update(batch),
        rounds,
        rival_name=rival_name,
        examples=len(batch.ids),
        operations=ours.size.useful_operations(batch),
        at_most=at_most,
    )


@pytest.mark.parametrize(
    ("method", "micro"),
    [*((method, "batch") for method in METHODS), *((method, "quarter") for method in MEMORY_BARS)],
)
def test_step(benchmark, size: Size, batch: Batch, method: str, micro: str, rounds: int, tmp_path: Path) -> None:
    ours = Contender(size, method, micro_batch=size.batch // 4 if micro == "quarter" else None)
    rival, rival_name = rival_of(size, method, ours, tmp_path)
    assert ours.trainable() == rival.trainable()
    assert_equal_gradients(ours, rival, batch)
    benchmark.group = group(batch)
    run(benchmark, ours, rival, batch, rounds, rival_name, at_most=STEP_BARS[method])
    peak, other = ours.peak(batch), rival.peak(batch)
    benchmark.extra_info |= {
        "method": method,
        "micro_batch": ours.parts.size,
        "peak_bytes": peak,
        "rival_peak_bytes": other,
        "memory_ratio": peak / other,
        "work": shares_of_work(lambda: ours.update(batch)),
    }
    bar = MICRO_BAR if micro == "quarter" else MEMORY_BARS.get(method)
    if bar is not None:
        set_bar(benchmark, f"peak memory to that of {rival_name}", peak / other, at_most=bar)


def test_bf16_step(benchmark, size: Size, batch: Batch, rounds: int) -> None:
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no bfloat16 units")
    ours = Contender(size, "vl-pet-large", precision="bf16")
    rival = Contender(size, "vl-pet-large", path="plain")
    assert_equal_gradients(ours, rival, batch, tolerance=0.1)
    benchmark.group = group(batch)
    run(benchmark, ours, rival, batch, rounds, "plain path, fp32", at_most=BF16_BAR)
    benchmark.extra_info |= {"method": "vl-pet-large, bf16", "micro_batch": None, "peak_bytes": ours.peak(batch)}


def test_compiled_layers(benchmark, size: Size, rounds: int) -> None:
    """Whether --compile is worth it here; a method with a part in every layer, and batches of one shape."""
    batch = size.make_batch("questions")
    ours, rival = Contender(size, "vl-pet-large", path="compiled"), Contender(size, "vl-pet-large")
    begun = time.perf_counter()
    assert_equal_gradients(ours, rival, batch)
    ours.update(batch)
    benchmark.extra_info |= {"method": "vl-pet-large, compiled", "micro_batch": None}
    benchmark.extra_info["compilation_seconds"] = time.perf_counter() - begun
    benchmark.group = group(batch)
    run(benchmark, ours, rival, batch, rounds, "not compiled")


def test_projector_alone(benchmark, size: Size, batch: Batch, rounds: int) -> None:
    """What no method can be faster than, nor smaller: the visual projector is all that is trained."""
    ours, rival = Contender(size, "projector-only"), Contender(size, "projector-only", path="plain")
    benchmark.group = group(batch)
    run(benchmark, ours, rival, batch, rounds, "plain path")
    peak, other = ours.peak(batch), rival.peak(batch)
    sizes = {"peak_bytes": peak, "rival_peak_bytes": other, "memory_ratio": peak / other}
    benchmark.extra_info |= {"method": "projector-only", "micro_batch": None, **sizes}
