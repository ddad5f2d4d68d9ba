"""Official state dicts: parity with outputs of the official code."""

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BartConfig, T5Config

from bench import losses, official, optim

CONFIGS = {"bart": BartConfig, "t5": T5Config}
GOLDEN = ["bart_full", "bart_vlpet_large", "t5_full", "t5_vlpet_small"]  # names of methods, too
REDUCED = {"vqa": "weighted", "gqa": "example", "nlvr": "example", "caption": "tokens"}


@dataclass
class Golden:
    facts: SimpleNamespace
    arrays: dict[str, torch.Tensor]
    model: torch.nn.Module

    def state_dict(self):
        return {name[3:]: value for name, value in self.arrays.items() if name.startswith("sd/")}

    def batch(self, name, *, labels=True):
        keys = ("input_ids", "vis_feats", "boxes", *(("labels",) if labels else ()))
        return {key: self.arrays[f"in/{name}/{key}"] for key in keys}

    def out(self, name):
        return self.arrays[f"out/{name}"]


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request, shared):
    path = shared / "golden" / request.param
    facts = SimpleNamespace(**json.loads(path.with_suffix(".json").read_text()))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = {name: torch.tensor(file[name]) for name in file.files}
    golden = Golden(facts, arrays, None)
    golden.model = official.load(
        {name: value.numpy() for name, value in golden.state_dict().items()},
        backbone=CONFIGS[facts.backbone](**facts.base_config),
        method=request.param,
        feat_dim=facts.feat_dim,
    )
    return golden


@pytest.mark.parametrize("batch", ["main", "nlvr", "ds", "nlvr_ds"])
def test_the_forward_pass_is_the_official_one(golden, batch):
    with torch.no_grad():
        out = golden.model(**golden.batch(batch))
    for name in ("logits", "encoder_last_hidden_state"):
        torch.testing.assert_close(getattr(out, name), golden.out(f"{batch}/{name}"), rtol=0, atol=5e-5)
    torch.testing.assert_close(out.loss, golden.out(f"{batch}/loss"), rtol=0, atol=1e-5)
    arguments = golden.batch(batch)
    with torch.no_grad():
        each = golden.model.token_losses(**arguments)
    torch.testing.assert_close(each.flatten(), golden.out(f"{batch}/loss_per_token"), rtol=0, atol=5e-5)


@pytest.mark.parametrize("task", REDUCED)
def test_every_task_trains_on_its_official_loss(golden, task):
    batch = golden.batch("nlvr" if task == "nlvr" else "main")
    labels, kind = batch["labels"], REDUCED[task]
    with torch.no_grad():
        each = golden.model.token_losses(**batch, task=task)
    weights = golden.arrays["in/main/scores"] if task == "vqa" else torch.ones(len(labels))
    loss = losses.reduce(kind, each, labels, weights, losses.normalizer(kind, labels))
    torch.testing.assert_close(loss, golden.out(f"train_step/{task}"), rtol=0, atol=1e-5)


def gradient(model, name):
    """The gradient of an official tensor, found by names written down here for the four goldens alone."""
    parameters = dict(model.named_parameters())
    if "visual_embedding" in name:
        return parameters[name[name.index("visual_embedding") :]].grad
    if "adapter" not in name:
        return parameters[f"lm.{name}"].grad
    layer = re.search(r"(?:layers|block)\.(\d)", name)[1]
    side = "up" if "up." in name or "up_sampler" in name else "down"
    leaf = name.rpartition(".")[2]
    if "value_parallel" in name:
        return parameters[f"pet.dec_{layer}_xa_v.delta.{side}.{leaf}"].grad
    site = f"pet.enc_{layer}_{'ff' if 'ff_adapter' in name else 'sa'}_out"
    if "gating" in name:
        return parameters[f"{site}.gate.body.{leaf if 'small' in name else f'{side}.{leaf}'}"].grad
    grad = parameters[f"{site}.delta.{side}.{leaf}"].grad
    head = re.search(r"multihead_down\.(\d)", name)
    return grad if head is None else grad.chunk(4)[int(head[1])]


@pytest.mark.parametrize(("batch", "prefix"), [("main", "grad/"), ("nlvr", "grad_nlvr/")])
def test_gradients_and_the_trained_set_are_the_official_ones(golden, batch, prefix):
    golden.model.zero_grad()
    golden.model(**golden.batch(batch)).loss.backward()
    wanted = {name[len(prefix) :]: value for name, value in golden.arrays.items() if name.startswith(prefix)}
    for name, value in wanted.items():
        # k_proj.bias has no effect, its gradient is noise of 1e-8
        assert (gradient(golden.model, name) - value).norm() <= 1e-4 * value.norm() + 1e-6, name

    trained = [p for p in golden.model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == golden.facts.n_trainable
    assert sum(p.numel() for p in golden.model.parameters()) == golden.facts.n_total
    decayed = sum(p.numel() for g in optim.groups(golden.model, 0.1, 0.01) if g["weight_decay"] for p in g["params"])
    sizes = {name: golden.arrays[f"sd/{name}"].numel() for name in golden.facts.trainable}
    assert decayed == sum(size for name, size in sizes.items() if "bias" not in name and "LayerNorm" not in name)
    if batch == "main":
        assert set(wanted) == set(golden.facts.trainable)
        norm = torch.stack([p.grad.norm() for p in trained]).norm()
        official_norm = torch.stack([value.norm() for value in wanted.values()]).norm()
        torch.testing.assert_close(norm, official_norm, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("beams", "wanted"), [(1, "generate_greedy_ids"), (5, "generate_beam5_ids")])
def test_generation_gives_the_official_ids(golden, beams, wanted):
    ids = golden.out(f"main/{wanted}")
    forced = golden.facts.base_config["eos_token_id"] if golden.facts.backbone == "bart" and beams > 1 else None
    result = golden.model.generate(
        **golden.batch("main", labels=False),
        num_beams=beams,
        max_length=ids.shape[1],
        do_sample=False,
        forced_bos_token_id=None,
        forced_eos_token_id=forced,
    )
    assert result.shape == ids.shape
    compared = slice(None, None if beams > 1 else -1)  # whether greedy search forces an end depends on the version
    assert torch.equal(result[:, compared], ids[:, compared])


def test_decoder_steps_have_the_official_logits(golden):
    ids = golden.out("main/greedy_ids")
    with torch.no_grad():
        result = golden.model(**golden.batch("main", labels=False), decoder_input_ids=ids[:, :-1]).logits
    torch.testing.assert_close(result, golden.out("main/greedy_step_logits"), rtol=0, atol=5e-5)


def test_true_or_false_is_decided_as_officially(golden):
    config = golden.model.lm.config
    start = [config.decoder_start_token_id, *([config.bos_token_id] if golden.facts.backbone == "bart" else [])]
    batch = golden.batch("nlvr", labels=False)
    prompt = torch.tensor([start] * len(batch["input_ids"]))
    with torch.no_grad():
        logits = golden.model(**batch, decoder_input_ids=prompt, task="nlvr").logits[:, -1]
    result = logits[:, golden.facts.true_id] > logits[:, golden.facts.false_id]
    assert result.long().tolist() == golden.out("nlvr_pred").tolist()
