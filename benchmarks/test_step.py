"""Time of a training update with each method, of assembling a batch, and of the vision-language wrapper.

Compare ratios within a group; seconds depend on the machine.
"""

from pathlib import Path

import pytest
import torch

import methods
from bench import backbones, optim, tasks
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
def test_training_step(benchmark, root: Path, method: str) -> None:
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
    benchmark.pedantic(step, rounds=20, warmup_rounds=3)


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
