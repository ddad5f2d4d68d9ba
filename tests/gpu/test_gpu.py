"""What only a GPU can show: placement, precision, peak memory against the computed split, resumption. ``make test-gpu``
runs these; without a CUDA device every one of them is skipped."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import methods
from bench import backbones, device, optim
from bench.config import Execution, Run, resolve
from bench.device import Memory, SavedActivations, analytic
from bench.events import RunEvent
from bench.files import read_json_lines
from bench.run import run_one
from bench.run_dir import RunDir

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
TASKS = ("vqa", "gqa", "nlvr")  # captions are scored by Java, which has nothing to do with the device
SETTINGS = {"steps": 24, "batch_size": 16, "checkpoint_every": 10, "recipe.dropout": 0.1}


def make(**settings: Any) -> Run:
    return resolve("mini-bart", "vl-pet-large", "image-text", task_names=TASKS, settings={**SETTINGS, **settings})


@pytest.fixture
def on_gpu(tiny_root: Path) -> Execution:
    return Execution(device="cuda", data={"mini": tiny_root})


def losses_of(results: Path, run: Run) -> torch.Tensor:
    return torch.tensor([row["loss"] for row in read_json_lines(RunDir(results, run.id).curve)])


def test_a_run_on_the_gpu_is_recorded_with_its_memory_and_hardware(on_gpu: Execution, tmp_path: Path) -> None:
    record = run_one(make(), on_gpu, tmp_path)
    assert record.status == "done", record.error
    assert record.environment["hardware"] == f"cuda: {torch.cuda.get_device_name(0)}"
    for phase in ("load", "first_step", "train", "evaluate"):
        peaks = record.memory["phases"][phase]
        assert 0 < peaks["allocated"] <= peaks["reserved"] <= peaks["device_used"]
    assert record.memory["phases"]["train"]["allocated"] >= record.memory["analytic"]["weights"]
    assert record.time["step_seconds"] > 0


def test_the_loss_curve_is_that_of_the_cpu(on_gpu: Execution, tmp_path: Path) -> None:
    run = make(**{"recipe.dropout": 0.0})
    run_one(run, on_gpu, tmp_path / "gpu")
    run_one(run, on_gpu.model_copy(update={"device": "cpu"}), tmp_path / "cpu")
    torch.testing.assert_close(losses_of(tmp_path / "gpu", run), losses_of(tmp_path / "cpu", run), rtol=2e-3, atol=2e-3)


def test_an_interrupted_run_goes_on_to_the_same_weights(on_gpu: Execution, tmp_path: Path) -> None:
    """With dropout on: the device's random state is part of the checkpoint."""
    run = make()

    def stop_at_13(event: RunEvent) -> None:
        if event.kind == "step" and event.step == 13:
            signal.raise_signal(signal.SIGINT)

    run_one(run, on_gpu, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_one(run, on_gpu, tmp_path / "parts", stop_at_13)
    run_one(run, on_gpu, tmp_path / "parts")
    ours, theirs = (load_file(RunDir(tmp_path / name, run.id).weights) for name in ("parts", "whole"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_bf16_autocast_trains_about_as_well(on_gpu: Execution, tmp_path: Path) -> None:
    curves = []
    for precision in ("fp32", "bf16"):
        run = make(precision=precision, **{"recipe.dropout": 0.0})
        assert run_one(run, on_gpu, tmp_path).status == "done"
        curves.append(losses_of(tmp_path, run))
    assert curves[1].isfinite().all()
    assert (curves[0] - curves[1]).abs().mean() < 0.1 * curves[0].mean()


@pytest.mark.parametrize("method", ["projector-only", "vl-pet-large", "lora", "full"])
def test_peak_memory_at_real_size_is_what_the_split_says(method: str) -> None:
    """Weights, gradients, optimiser state and saved activations make up the peak of a step, but for temporaries."""
    cuda = torch.device("cuda")
    device.seed_everything(0)
    torch.cuda.empty_cache()
    memory = Memory(cuda)
    model = backbones.build("bart-base", feat_dim=2048, device=cuda).train()
    methods.attach(model, method)
    optimiser = optim.build(model, "adamw", 1e-4, 0.01)
    ids = torch.randint(10, 50000, (64, 20), device=cuda)
    features, labels = torch.randn(64, 36, 2048, device=cuda), torch.randint(10, 50000, (64, 8), device=cuda)

    def loss() -> torch.Tensor:
        return model.token_losses(ids, features, labels).mean()

    with SavedActivations(model) as kept:
        first = loss()
    first.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    state = device.size(v for s in optimiser.state.values() for v in s.values() if isinstance(v, torch.Tensor))
    with memory.phase("step"):
        loss().backward()
        optimiser.step()
    parts = analytic(model, state, kept.bytes)
    computed = sum(parts[name] or 0 for name in ("weights", "optimizer", "activations"))
    peak = memory.phases["step"]["allocated"]
    assert peak is not None
    assert 0.9 * computed < peak < 1.35 * computed + parts["gradients"], (
        peak / 2**20,
        {k: v for k, v in parts.items()},
    )
