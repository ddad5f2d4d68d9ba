"""What must not change: outputs while nothing is modified, generation with and without cache, gradients."""

import copy

import pytest
import torch
from tiny_models import BARE, attach_moved, language_model, perturb, text, wrapper

import methods
from methods import context
from methods.spec import SITES, Bottleneck, Gate, LoRA, Patch, Spec

BLOCKS = tuple(site for site in SITES if site.endswith(".out"))
WITH_X = tuple(site for site in SITES if not site.endswith((".mid", ".ln", ".kv")))
VECTOR = Gate(kind="vector", out="channel", squash="one_plus", init="zeros")
NEUTRAL = {
    "bottleneck": Spec(parts=(Patch(at=SITES, delta=Bottleneck(r=4, init_up="zeros")),)),
    "parallel": Spec(parts=(Patch(at=WITH_X, delta=Bottleneck(r=4, input="x", init_up="zeros")),)),
    "lora": Spec(parts=(Patch(at=WITH_X, delta=LoRA(r=4, alpha=8, dropout=0.1)),)),
    "vector gate": Spec(parts=(Patch(at=SITES, gate=VECTOR),)),
    "two on a site": Spec(parts=(Patch(at=BLOCKS, delta=Bottleneck(r=4, init_up="zeros")),) * 2),
}
ADAPTERS = [name for name in BARE if name not in ("full", "projector-only")]


def beams(model, **options):
    ids = text()["input_ids"]
    return model.generate(ids, num_beams=3, max_new_tokens=8, do_sample=False, **options)


@pytest.mark.parametrize("name", NEUTRAL)
@torch.no_grad()
def test_neutral_parts_leave_every_bit_alone(family, name):
    lm = language_model(family)
    logits, ids = lm(**text()).logits, beams(lm)
    handle = methods.attach(lm, NEUTRAL[name])
    assert torch.equal(lm(**text()).logits, logits)
    assert torch.equal(beams(lm), ids)
    perturb(lm.pet, 0.5)
    assert not torch.allclose(lm(**text()).logits, logits, atol=1e-3)
    handle.detach()
    assert torch.equal(lm(**text()).logits, logits)


@pytest.mark.parametrize("name", ADAPTERS)
@torch.no_grad()
def test_cached_generation_is_uncached_generation(family, name):
    lm = language_model(family)
    attach_moved(lm, name, 0.3)
    ids = text()["input_ids"]
    options = {"max_new_tokens": 8, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    cached, uncached = (lm.generate(ids, use_cache=cache, **options) for cache in (True, False))
    torch.testing.assert_close(torch.stack(cached.scores), torch.stack(uncached.scores), atol=5e-5, rtol=1e-5)
    assert torch.equal(beams(lm, use_cache=True), beams(lm, use_cache=False))


@pytest.mark.parametrize("name", ["vl-pet-large", "vl-pet-small", "lora"])
def test_gradient_checkpointing_gives_the_same_gradients(family, name):
    gradients = []
    for checkpointing in (False, True):
        lm = language_model(family)
        methods.attach(lm, methods.get(name, **({"dropout": 0.0} if name == "lora" else {})))
        torch.manual_seed(0)
        perturb(lm.pet, 0.2)
        if checkpointing:
            getattr(lm, "activation_checkpointing_enable", lm.gradient_checkpointing_enable)()
        lm.train()
        lm(**text()).loss.backward()
        gradients.append({n: p.grad for n, p in lm.named_parameters() if p.grad is not None})
    assert len(gradients[0]) > 10
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gradient_checkpointing_of_two_tasks_before_one_backward_pass(family):
    """Every layer that is run again has the task of its own forward pass."""
    gradients = []
    for checkpointing in (False, True):
        lm = language_model(family)
        methods.attach(lm, "vl-adapter-multiple")
        if checkpointing:
            getattr(lm, "activation_checkpointing_enable", lm.gradient_checkpointing_enable)()
        torch.manual_seed(0)
        perturb(lm.pet, 0.2)
        losses = []
        for task in ("vqa", "gqa"):
            with context.task(task):
                losses.append(lm.train()(**text()).loss)
        with context.task(None):
            sum(losses).backward()
        gradients.append({n: p.grad for n, p in lm.named_parameters() if p.grad is not None})
    assert any(".gqa." in name for name in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ADAPTERS)
def test_half_precision_with_a_float32_output_projection(name):
    """T5 keeps ``wo`` in float32 when the rest is bfloat16; PET modules take and give back what the site has."""
    lm = language_model("t5").to(torch.bfloat16)
    for module in (*lm.encoder.block, *lm.decoder.block):
        module.layer[-1].DenseReluDense.wo.float()
    new = methods.attach(lm, name).added()
    # PEFT's stand inside the layer, in the layer's dtype.
    assert all(p.dtype == torch.bfloat16 or ".wo." in key for key, p in new.items())
    loss = lm(**text()).loss
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", ["vl-pet-large", "lora", "vl-pet-middleY"])
def test_autocast(family, name):
    lm = language_model(family)
    methods.attach(lm, name)
    exact = lm(**text()).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = lm(**text()).loss
    loss.backward()
    torch.testing.assert_close(loss, exact, atol=0.1, rtol=0.05)
    assert all(p.grad.dtype == torch.float32 for p in lm.pet.parameters() if p.grad is not None)


def test_a_copied_model_is_its_own(family):
    model = wrapper(family)
    methods.attach(model, "vl-pet-large")
    twin = copy.deepcopy(model)
    perturb(twin.pet, 0.5)
    with torch.no_grad():
        assert not torch.allclose(model.lm(**text()).logits, twin.lm(**text()).logits, atol=1e-3)
