"""CLIPFit: which vectors it tunes, and its distance from the untuned model."""

import copy

import pytest
import torch
from related_models import (
    CLOSE,
    model,
    padded,
    recorded,
    seen,
    text,
)
from torch import Tensor

import methods


def tuned_by_clipfit(family: str, decoder: bool) -> set[str]:
    stacks = ("enc", "dec") if decoder else ("enc",)
    if family == "bart":
        norms = {"lm.model.encoder.layernorm_embedding"}
        for i in (0, 1):
            norms |= {f"lm.model.encoder.layers.{i}.{norm}_layer_norm" for norm in ("self_attn", "final")}
        biases = {f"lm.model.{stack}oder.layers.{i}.fc2.bias" for i in (0, 1) for stack in stacks}
        return biases | {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    norms = {f"lm.encoder.block.{i}.layer.{j}.layer_norm.weight" for i in (0, 1) for j in (0, 1)}
    biases = {f"pet.{stack}_{i}_ff_out.delta.vector" for i in (0, 1) for stack in stacks}
    return biases | norms | {"lm.encoder.final_layer_norm.weight"}


@pytest.mark.parametrize("decoder", [False, True])
def test_clipfit_tunes_second_ffn_biases_and_encoder_norms_and_no_attention(family, decoder):
    handle = methods.attach(model(family), methods.get("clipfit", decoder=decoder))
    names = {name for name in handle.trainable_names() if not name.startswith("visual_embedding.")}
    assert names == tuned_by_clipfit(family, decoder)


@torch.no_grad()
def test_clipfit_gives_t5_the_bias_it_lacks():
    built, recorders = recorded("t5", methods.get("clipfit", decoder=True))
    built(text(), seen())
    for stack, recorder in recorders.items():
        for i, change in enumerate(recorder.changes()):
            vector = built.pet[f"{stack}_{i}_ff_out"].delta.vector
            assert vector.abs().max() > 0.05
            torch.testing.assert_close(change, vector.expand_as(change), **CLOSE)


def mean_states(built, ids: Tensor) -> Tensor:
    """Mean encoder states of every example's text alone."""
    states, mask = built.backbone_family.encode_joint(
        built.lm.get_encoder(), ids, (ids != 1).long(), torch.zeros(len(ids), 0, 32)
    )
    return torch.stack([states[i, : int(mask[i].sum())].mean(0) for i in range(len(ids))])


def test_distillation_is_the_distance_from_the_untuned_model(family):
    """Written out with a copy of the model from before: no dropout on either side, text alone, padding left out."""
    built = model(family, **({"dropout": 0.3} if family == "bart" else {"dropout_rate": 0.3}), pad_token_id=1)
    before = copy.deepcopy(built)
    handle = methods.attach(built, methods.get("clipfit", distill=8.0, decoder=True))
    ids = padded(text(), 4, built)
    built.train()
    distill = built.pet["input"]
    assert distill.penalty() is None
    built(ids, seen())
    assert abs(distill.penalty().item()) < 1e-5  # nothing is tuned yet
    assert distill.penalty() is None  # asked once
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in handle.trained().items():
            if not name.startswith("visual"):
                parameter.add_(torch.randn_like(parameter) * 0.5)
    values = {name: parameter.detach().clone() for name, parameter in built.named_parameters()}
    built(ids, seen())
    penalty = distill.penalty()
    penalty.backward()
    assert all(torch.equal(values[name], parameter) for name, parameter in built.named_parameters())
    assert all(module.training for module in built.modules())
    built.eval()
    cosines = [
        torch.dot(a, b) / (a.norm() * b.norm())
        for a, b in zip(mean_states(built, ids), mean_states(before, ids), strict=True)
    ]
    torch.testing.assert_close(penalty, 8 * (1 - sum(cosines) / 2), atol=1e-5, rtol=1e-5)
    assert penalty > 0.05
    for name, parameter in built.named_parameters():
        moves = name in handle.trained() and "dec" not in name.split(".")[1][:3] and ".decoder." not in name
        assert (parameter.grad is not None and parameter.grad.any()) == (moves and not name.startswith("visual")), name
    built(ids, seen())
    assert distill.penalty() is None  # evaluation asks for nothing


def test_distillation_keeps_its_yardstick_in_copies_and_checkpoints(family):
    built = model(family)
    methods.attach(built, methods.get("clipfit", distill=1.0))
    kept = {name: buffer.clone() for name, buffer in built.named_buffers() if name.startswith("pet.")}
    twin = copy.deepcopy(built).train()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter) * parameter.requires_grad)
    twin(text(), seen())
    assert twin.pet["input"].penalty() > 0.01
    built.train()(text(), seen())
    assert built.pet["input"].penalty().abs() < 1e-5
    for name, buffer in twin.named_buffers():
        if name.startswith("pet."):
            torch.testing.assert_close(buffer, kept[name], atol=0, rtol=0)
