"""Time of a training update with each method, of assembling a batch, and of the vision-language wrapper.

Compare ratios within a group; seconds depend on the machine.
"""

import statistics
from pathlib import Path

import pytest
import torch
from torch import nn

import methods
from bench import backbones, optim, tasks
from bench import device as dev
from bench.config import resolve
from bench.data.batches import TokenizedSplit
from bench.data.features import FeatureStore
from bench.data.roots import locate
from bench.micro_batches import MicroBatches


@pytest.fixture(scope="module")
def root() -> Path:
    return locate("mini", "image-text", {})


@pytest.mark.benchmark(group="training step, mini-bart, VQA batch of 32")
@pytest.mark.parametrize("method", methods.names())
def test_training_step(benchmark, root: Path, method: str, rounds: int) -> None:
    run = resolve("mini-bart", method, "image-text", settings={"batch_size": 32})
    task = tasks.get("vqa")
    data = TokenizedSplit(
        task, task.read(root, "train"), backbones.tokenizer("mini-bart"), FeatureStore(root, "grid"), prefix=True
    )
    model = backbones.build("mini-bart", feat_dim=data.collate([0]).vis_feats.shape[-1]).train()
    count = methods.attach(model, method).count()
    optimiser = optim.build(model, "adamw", run.recipe.lr, run.recipe.weight_decay)
    batch, parts = data.batch(0, 0, 32, seed=1), MicroBatches()

    def step() -> None:
        parts.backward(model, batch, task.loss, run.recipe, torch.device("cpu"))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    benchmark.extra_info["trainable"] = count.trainable
    benchmark.pedantic(step, rounds=rounds, warmup_rounds=2)


BART_BASE = [(50465, 768), *[(768, 768), (768,)] * 72, *[(3072, 768), (768, 3072), (3072,), (768,)] * 12]
SHAPES = {"lora": [(128, 768), (768, 128)] * 36, "full": BART_BASE}


@pytest.mark.benchmark(group="an update by AdamW: the official one, then torch's fused one")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("size", SHAPES)
def test_both_optimisers(benchmark, size: str, device: str) -> None:
    """One step of ``adamw-official``; ``ratio`` is its time to that of ``adamw`` (torch, fused), in turn."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    kinds = ("adamw-official", "adamw")
    layer = nn.ParameterList([nn.Parameter(torch.randn(s, device=device)) for s in SHAPES[size]])
    for p in layer:
        p.grad = torch.randn_like(p)
    optimisers = {kind: optim.build(layer, kind, 1e-4, 0.01) for kind in kinds}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    clock_device = torch.device(device)

    def both() -> None:
        for kind, optimiser in optimisers.items():
            begun = dev.clock(clock_device)
            optimiser.step()
            times[kind].append(dev.clock(clock_device) - begun)

    benchmark.pedantic(both, rounds=5, warmup_rounds=1)
    official, fused = (statistics.median(times[kind][1:]) for kind in kinds)
    benchmark.extra_info |= {"official_ms": 1000 * official, "fused_ms": 1000 * fused, "ratio": official / fused}


@pytest.mark.benchmark(group="assembling a batch of 32 (VQA)")
def test_batch(benchmark, root: Path) -> None:
    task = tasks.get("vqa")
    data = TokenizedSplit(
        task, task.read(root, "train"), backbones.tokenizer("mini-bart"), FeatureStore(root, "grid"), prefix=True
    )
    data.batch(0, 0, 32, seed=1)
    benchmark(lambda: data.batch(0, 1, 32, seed=1))


@pytest.mark.benchmark(group="wrapper against plain BART, forward, the same number of tokens")
@pytest.mark.parametrize("kind", ["wrapper", "plain"])
def test_forward(benchmark, kind: str) -> None:
    model = backbones.build("mini-bart", feat_dim=32).eval()
    ids, features = torch.full((32, 12), 5), torch.randn(32, 9, 32)
    labels = torch.full((32, 4), 5)

    @torch.inference_mode()
    def run() -> None:
        if kind == "wrapper":
            model(ids, features, labels=labels)
        else:
            model.lm(input_ids=torch.full((32, 21), 5), decoder_input_ids=labels, use_cache=False)

    benchmark(run)
