"""Folding a method into the backbone's weights."""

import pytest
import torch
from tiny_models import BARE, SHAPE, attach_moved, language_model, perturb, text

import methods
from methods.core.errors import MethodError
from methods.core.spec import Bottleneck, Gate, LoRA, Patch, Spec

FACTOR = Gate(kind="vector", out="channel", squash="one_plus", init="ones")


def merges(name: str) -> bool:
    return methods.get(name).spec(SHAPE).mergeable


@pytest.mark.parametrize("name", [name for name in BARE if merges(name) and name != "projector-only"])
@torch.no_grad()
def test_a_merged_model_is_a_plain_one_with_the_same_outputs(family, name):
    lm = language_model(family)
    plain = {key: (type(module), set(module._forward_hooks)) for key, module in lm.named_modules()}
    before = lm(**text()).logits
    handle = attach_moved(lm, name, 0.2)
    wanted = lm(**text()).logits
    if handle.added():
        assert not torch.allclose(wanted, before, atol=1e-3)
    handle.merge()
    assert {key: (type(module), set(module._forward_hooks)) for key, module in lm.named_modules()} == plain
    torch.testing.assert_close(lm(**text()).logits, wanted, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_parts_on_one_site_are_folded_in_their_order(family):
    """z ⊙ (W x) with a low-rank map inside the factor, and another one outside of it."""
    at = ("dec.xa.v",)
    lora = Patch(at=at, delta=LoRA(r=3, alpha=6))
    lm = language_model(family)
    handle = methods.attach(lm, Spec(parts=(lora, Patch(at=at, gate=FACTOR), lora)))
    perturb(lm.pet, 0.3)
    wanted = lm(**text()).logits
    handle.merge()
    torch.testing.assert_close(lm(**text()).logits, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["vl-pet-large", "vl-adapter", "lora+vl-pet-large", "lora-multiple"])
def test_what_cannot_be_merged_says_why_and_stays(name):
    lm = language_model("bart")
    handle = methods.attach(lm, name)
    wanted = lm(**text()).logits
    with pytest.raises(MethodError, match=r"cannot be merged.*H' = "):
        handle.merge()
    assert torch.equal(lm(**text()).logits, wanted)


@pytest.mark.parametrize(
    "patch",
    [
        Patch(at=("enc.sa.out",), delta=LoRA(r=2, alpha=2)),  # beside a whole block, not a Linear
        Patch(at=("enc.sa.q",), delta=LoRA(r=2, alpha=2), scale=0.5),
        Patch(at=("enc.sa.q",), delta=LoRA(r=2, alpha=2), gate=FACTOR),
        Patch(at=("enc.sa.q",), delta=LoRA(r=2, alpha=2), keep="none"),
        Patch(at=("enc.sa.q",), delta=LoRA(r=2, alpha=2, input="h")),
        Patch(at=("enc.sa.q",), delta=LoRA(r=2, alpha=2, share="none")),
        Patch(at=("enc.sa.q",), gate=FACTOR.model_copy(update={"op": "add"})),
        Patch(at=("enc.sa.q",), delta=Bottleneck(r=2, act="none")),
    ],
)
def test_only_what_a_weight_can_stand_for_merges(patch):
    assert not Spec(parts=(patch,)).mergeable
