"""The device module: what is asked of torch where CUDA is substituted, and what is measured where it is not."""

import contextlib
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench import device
from bench.config import Execution, resolve
from bench.errors import UsageError
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.stages import prepare_machine

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")
UNIT = 4  # bytes of a float32


class FakeCuda:
    """Stands in for torch.cuda: two devices, whose figures a test sets, and a log of what was asked of which."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, torch.device | None]] = []
        self.allocated = self.reserved = 0
        self.free, self.total = 900, 1000
        answers: dict[str, Any] = {
            "is_available": lambda: True,
            "device_count": lambda: 2,
            "init": lambda: None,
            "synchronize": lambda: None,
            "get_device_name": lambda: "NVIDIA Something",
            "reset_peak_memory_stats": self._reset,
            "max_memory_allocated": lambda: self.allocated,
            "max_memory_reserved": lambda: self.reserved,
            "mem_get_info": lambda: (self.free, self.total),
        }
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, self._logged(name, answer))

    def _logged(self, name: str, answer: Any) -> Any:
        def call(requested: torch.device | None = None) -> Any:
            self.log.append((name, requested))
            return answer()

        return call

    def _reset(self) -> None:
        self.allocated = self.reserved = 0


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


# Placement


@pytest.mark.parametrize(
    ("backbone", "execution", "threads"),
    [
        ("mini-bart", {}, 1),
        ("mini-bart", {"share": 2}, 1),
        ("mini-bart", {"threads": 2}, 2),
        ("facebook/bart-base", {}, 3),  # torch's own choice, also behind a miniature run in the same process
        ("facebook/bart-base", {"share": 2}, 2),
        ("facebook/bart-base", {"share": 2, "threads": 1}, 1),
    ],
)
def test_threads_of_a_run(
    backbone: str, execution: dict[str, int], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "default_threads", lambda: 3)
    run = resolve(backbone, "lora", "image-text")
    try:
        machine = prepare_machine(RunContext(run, Execution(device="cpu", **execution), RunDir(tmp_path, run.id)))
        assert torch.get_num_threads() == machine.environment["threads"] == threads
    finally:
        torch.set_num_threads(before)


def test_auto_takes_cuda_when_it_is_there(cuda: FakeCuda) -> None:
    assert device.pick() == torch.device("cuda")
    assert [device.pick(name) for name in ("cpu", "cuda", "cuda:1")] == [CPU, torch.device("cuda"), CUDA]


@pytest.mark.usefixtures("no_cuda")
def test_auto_takes_the_cpu_otherwise() -> None:
    assert device.pick() == device.pick("cpu") == CPU


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_without_a_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--device {name}: torch sees 0 CUDA devices here; use --device cpu or auto"):
        device.pick(name)


def test_a_cuda_device_too_many_is_refused(cuda: FakeCuda) -> None:
    with pytest.raises(UsageError, match="--device cuda:2: torch sees 2 CUDA devices"):
        device.pick("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:one", "meta", "cpux"])
def test_other_names_are_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--device {name}: no such device; use auto, cpu, cuda or cuda:N"):
        device.pick(name)


# Precision


def test_full_precision_is_left_alone() -> None:
    with device.autocast(CPU, "fp32"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_matrix_products_are_rounded_in_the_block_only(cuda: FakeCuda) -> None:
    for before in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = before
        for precision in ("tf32", "fp32", "bf16"):
            with pytest.raises(ZeroDivisionError), device.matrix_products(precision):
                assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
                assert device.hardware_key(CUDA).endswith(", TF32") == (precision == "tf32")
                _ = 1 / 0
            assert torch.backends.cuda.matmul.allow_tf32 == before
    torch.backends.cuda.matmul.allow_tf32 = False


def test_tf32_means_nothing_on_a_cpu() -> None:
    plain, factors, key = device.hardware_key(CPU), torch.randn(64, 64), {}
    for precision in ("fp32", "tf32"):
        with device.matrix_products(precision), device.autocast(CPU, precision):
            key[precision] = factors @ factors
            assert device.hardware_key(CPU) == plain
    assert torch.equal(key["fp32"], key["tf32"])


def test_half_precision_is_autocast_with_the_weights_kept() -> None:
    layer = nn.Linear(2, 2)
    with device.autocast(CPU, "bf16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


# Seeds


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_a_seed_decides_all_three_generators() -> None:
    device.seed_everything(7)
    first = draws()
    device.seed_everything(7)
    assert draws() == first
    device.seed_everything(8)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_dropout_goes_on_from_a_kept_state() -> None:
    device.seed_everything(7)
    torch.rand(3)
    state = device.rng_state()
    first = nn.functional.dropout(torch.ones(50))
    device.seed_everything(1)
    device.set_rng_state(state)
    assert torch.equal(nn.functional.dropout(torch.ones(50)), first)


def test_states_of_cuda_generators_are_kept_and_put_back(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    states, put = [torch.tensor([1], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)], []
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put.extend)
    device.set_rng_state(device.rng_state())
    assert [state.tolist() for state in put] == [[1], [2]]


@pytest.mark.usefixtures("no_cuda")
def test_a_state_kept_with_cuda_is_good_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: pytest.fail("there is no CUDA"))
    device.set_rng_state({"cpu": torch.get_rng_state(), "cuda": [torch.tensor([1], dtype=torch.uint8)]})


# Clocks and hardware


def test_the_clock_waits_for_the_device(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.time, "perf_counter", lambda: float(len(cuda.log)))
    assert device.clock(CUDA) == 1.0  # read after it was synchronised
    assert cuda.log == [("synchronize", CUDA)]
    assert device.clock(CPU) == 1.0  # nothing to wait for


def test_hardware_is_named(cuda: FakeCuda) -> None:
    assert device.hardware_key(CUDA) == "cuda: NVIDIA Something"
    assert re.fullmatch(rf"cpu: .+, {torch.get_num_threads()} threads", device.hardware_key(CPU))


# Memory by phase


def test_the_cpu_has_resident_memory_and_no_other_figure() -> None:
    memory = device.Memory(CPU)
    with memory.phase("train"):
        block = np.ones(2**27, dtype=np.uint8)  # so large that no freed memory serves for it
    del block
    with memory.phase("evaluate"):
        pass
    figures = memory.phases["train"]
    assert {name for name, value in figures.items() if value is None} == {"allocated", "reserved", "device_used"}
    rise = figures["host_rss"] - memory.phases["evaluate"]["host_rss"]  # type: ignore[operator]
    assert rise > 2**26


def test_a_peak_between_the_ends_of_a_phase_is_seen() -> None:
    memory = device.Memory(CPU)
    with memory.phase("train"):
        block = np.ones(2**26, dtype=np.uint8)
        device.time.sleep(0.4)
        del block
        after = device.psutil.Process().memory_info().rss
    assert memory.phases["train"]["host_rss"] > after + 2**25  # type: ignore[operator]


def test_phases_on_cuda_have_their_own_peaks(cuda: FakeCuda) -> None:
    memory = device.Memory(CUDA)
    with memory.phase("load"):
        cuda.allocated, cuda.reserved, cuda.free = 500, 600, 200
    with memory.phase("train"):
        cuda.allocated, cuda.reserved, cuda.free = 50, 80, 700
    sizes = {name: {k: v for k, v in figures.items() if k != "host_rss"} for name, figures in memory.phases.items()}
    assert sizes == {
        "load": {"allocated": 500, "reserved": 600, "device_used": 800},
        "train": {"allocated": 50, "reserved": 80, "device_used": 300},
    }
    assert cuda.log[:2] == [("init", None), ("reset_peak_memory_stats", CUDA)]  # the order torch needs
    assert {requested for _, requested in cuda.log[1:]} == {CUDA}


def test_a_phase_entered_again_keeps_the_higher_peaks(cuda: FakeCuda) -> None:
    memory = device.Memory(CUDA)
    for allocated, reserved in ((30, 100), (40, 90)):
        with memory.phase("train"):
            cuda.allocated, cuda.reserved = allocated, reserved
    assert (memory.phases["train"]["allocated"], memory.phases["train"]["reserved"]) == (40, 100)


def test_a_phase_that_fails_is_measured(cuda: FakeCuda) -> None:
    memory = device.Memory(CUDA)
    with contextlib.suppress(torch.OutOfMemoryError), memory.phase("train"):
        cuda.allocated = 70
        raise torch.OutOfMemoryError
    assert memory.phases["train"]["allocated"] == 70


# Memory by purpose


class Net(nn.Module):
    """Tied in and out, one Linear frozen, one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.tuned = nn.Linear(8, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("mask", torch.ones(6))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.tuned(self.frozen(self.words(ids)).relu()))


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_weights_are_split_by_purpose_ties_counted_once(place: str) -> None:
    with torch.device(place):
        model = Net()
    tuned = 10 * 4 + 8 * 4 + 4
    assert device.analytic(model, 5, None) == {
        "weights": UNIT * (tuned + 4 * 8 + 8 + 6),
        "trainable": UNIT * tuned,
        "gradients": UNIT * tuned,
        "optimizer": 5,
        "activations": None,
    }


def test_gradients_and_adams_state_have_the_stated_sizes() -> None:
    model = Net()
    optimiser = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    model(torch.tensor([[1, 2]])).sum().backward()
    optimiser.step()
    split = device.analytic(model, None, None)
    assert device.size(p.grad for p in model.parameters()) == split["gradients"]
    moments = [v for state in optimiser.state.values() for v in state.values()]
    counters = UNIT * len(optimiser.state)
    assert device.size(moments) == 2 * split["trainable"] + counters  # type: ignore[operator]


def test_sizes_are_bytes_and_a_storage_counts_once() -> None:
    complete = torch.ones(3)
    assert device.size([torch.ones(3, dtype=torch.bfloat16), None, complete, complete.view(3, 1)]) == 6 + 12


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_views_cost_no_more_than_what_they_look_at(place: str) -> None:
    base = torch.ones(6, 5, device=place)
    for tensors in ([base[:2], base], [base, base.T], [base[:2], base[2:]], [base.expand(9, 6, 5)]):
        assert device.size(tensors) == UNIT * 6 * 5
    assert device.size([base, torch.ones_like(base)]) == 2 * UNIT * 6 * 5


def test_activations_are_what_autograd_keeps() -> None:
    """Each storage once: the input of a trained Linear, the output of a ReLU; no weights."""
    first, second, third = nn.Linear(3, 5), nn.Linear(3, 5), nn.Linear(5, 2)
    model = nn.ModuleList([first, second, third])
    x = torch.randn(7, 3)
    with device.SavedActivations(model) as kept:
        third((first(x) + second(x)).relu()).sum().backward()
    assert kept.bytes == UNIT * (7 * 3 + 7 * 5)
    after = kept.bytes
    third((first(x) + second(x)).relu())
    assert kept.bytes == after, "counts inside the block only"


def test_frozen_layers_before_the_first_tuned_one_keep_nothing() -> None:
    layers = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    layers[0].requires_grad_(False)
    with device.SavedActivations(layers) as kept:
        layers(torch.randn(7, 3))
    assert kept.bytes == UNIT * 7 * 5
    layers.requires_grad_(False)
    with device.SavedActivations(layers) as kept:
        layers(torch.randn(7, 3))
    assert kept.bytes == 0


def test_activations_are_counted_without_numbers() -> None:
    with torch.device("meta"):
        layers, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(7, 3)
    with device.SavedActivations(layers) as kept:
        layers(x)
    assert kept.bytes == UNIT * (7 * 3 + 7 * 5)


def test_counting_leaves_gradients_as_they_are() -> None:
    model, ids = Net(), torch.tensor([[1, 2, 3]])
    plain = torch.autograd.grad(model(ids).square().sum(), [p for p in model.parameters() if p.requires_grad])
    with device.SavedActivations(model):
        counted = torch.autograd.grad(model(ids).square().sum(), [p for p in model.parameters() if p.requires_grad])
    assert all(map(torch.equal, plain, counted))


def test_activations_of_sparse_matrices_are_their_entries_and_their_places():
    values = torch.ones(3, requires_grad=True)
    places = torch.tensor([[0, 1, 2], [0, 1, 2]])
    with device.SavedActivations(torch.nn.Module()) as kept:
        sparse = torch.sparse_coo_tensor(places, 2 * values, (4, 4))
        torch.sparse.mm(sparse, torch.ones(4, 2)).sum().backward()
    assert kept.bytes >= places.numel() * 8 + values.numel() * 4
