"""CLIPFit, ADEM-VL, UniAdapter, READ and GraSP-VL: what holds for all of them, and their counts."""

import copy

import pytest
import torch
from related_models import (
    FEATS,
    attached,
    chosen,
    each,
    model,
    padded,
    seen,
    text,
)
from tiny_models import perturb
from torch import Tensor

import methods
from bench import backbones
from methods.core import context


@pytest.mark.parametrize(("name", "facts"), [
    ("clipfit distilled", {"in_encoder": True, "needs_wrapper": True}),
    ("adem-vl", {"in_encoder": False, "needs_wrapper": True}),
    ("adem-vl encoder", {"in_encoder": True, "needs_wrapper": True}),
    ("uniadapter", {"in_encoder": False, "needs_wrapper": True}),
    ("read", {"in_encoder": True, "needs_wrapper": False}),
    ("grasp-vl", {"in_encoder": True, "needs_wrapper": True}),
])  # fmt: skip
def test_facts(name, facts):
    shape = methods.Shape("bart", d=32, ff=48, heads=4, inner=32, encoder_layers=2, decoder_layers=2, vocab=60)
    (part,) = chosen(name).spec(shape).parts
    assert {key: getattr(part, key) for key in facts} == facts
    assert (part.per_task, part.mergeable, part.exact_with_cache) == (False, False, True)
    assert chosen(name).describe.startswith("Adaptation of ")


NEUTRAL = {
    "clipfit": ({}, "vector"),
    "clipfit distilled": ({"distill": 8.0}, "vector"),
    "adem-vl": ({"alpha": 0.0}, ""),
    "uniadapter": ({"rank": 8, "delta_scale": 0.0}, ""),
    "read": ({}, "up."),
    "grasp-vl": ({}, ""),
}


@pytest.mark.parametrize("name", NEUTRAL)
@torch.no_grad()
def test_switched_off_it_changes_nothing(family, name):
    """With its scale or last projection at zero; fusion then leaves the text alone."""
    options, zero = NEUTRAL[name]
    plain = model(family)
    ids, labels = padded(text(), 4, plain), text(length=3)
    feats = seen() if name != "adem-vl" else torch.zeros(2, 0, FEATS)
    logits = plain(ids, feats, labels=labels).logits
    generated = plain.generate(ids, feats, num_beams=3, max_new_tokens=6, do_sample=False)
    methods.attach(plain, methods.get(name.split()[0], **options))
    for key, parameter in plain.pet.named_parameters():
        if zero and zero in key:
            parameter.zero_()
    assert torch.equal(plain(ids, seen(), labels=labels).logits, logits)
    assert torch.equal(plain.generate(ids, seen(), num_beams=3, max_new_tokens=6, do_sample=False), generated)


@each
@torch.no_grad()
def test_generation_with_and_without_cache_together_and_alone(family, name):
    """Beams of a batch, where every beam has its example's visual tokens, are those of its examples one by one."""
    built, _ = attached(family, name)
    ids, feats = padded(text(rows=3), 4, built), seen(rows=3, images=2)
    options = {"num_beams": 3, "num_return_sequences": 2, "do_sample": False, "min_new_tokens": 6, "max_new_tokens": 6}
    options |= {"output_scores": True, "return_dict_in_generate": True}

    def generated(rows: slice, **more) -> tuple[Tensor, Tensor]:
        found = built.generate(ids[rows, :4] if rows == slice(0, 1) else ids[rows], feats[rows], **options, **more)
        return found.sequences, found.sequences_scores

    sequences, scores = generated(slice(0, 3))
    assert len(sequences.unique(dim=0)) > 1
    uncached, uncached_scores = generated(slice(0, 3), use_cache=False)
    assert torch.equal(uncached, sequences)
    torch.testing.assert_close(uncached_scores, scores, atol=1e-5, rtol=1e-5)
    for row in range(3):
        alone, alone_scores = generated(slice(row, row + 1))
        assert torch.equal(alone, sequences[2 * row : 2 * row + 2])
        torch.testing.assert_close(alone_scores, scores[2 * row : 2 * row + 2], atol=1e-5, rtol=1e-5)


@each
def test_gradient_checkpointing_gives_the_same_gradients(family, name):
    """Also of two batches with different numbers of tokens before one backward pass."""
    gradients = []
    for checkpointing in (False, True):
        built, _ = attached(family, name)
        if checkpointing:
            getattr(built.lm, "activation_checkpointing_enable", built.lm.gradient_checkpointing_enable)()
        built.train()
        built.set_dropout(0.0)
        losses = []
        for ids, feats in ((padded(text(), 4, built), seen(images=2)), (text(length=5), seen(count=4))):
            losses.append(built(ids, feats, labels=text(length=3)).loss)
            losses += [m.penalty() for m in built.modules() if hasattr(m, "penalty")]
        sum(losses).backward()
        gradients.append({n: p.grad for n, p in built.named_parameters() if p.grad is not None and p.requires_grad})
    assert len(gradients[0]) > 5 and any("visual_embedding" in n for n in gradients[0])
    assert gradients[0].keys() == gradients[1].keys()
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("ambient", [None, "vqa", "gqa"])
def test_gradient_checkpointing_of_two_tasks_before_one_backward_pass(family, ambient):
    """Every layer that is run again has the task of its own forward pass, whatever the method and the task by then."""
    gradients = []
    for checkpointing in (False, True):
        built = model(family).train()
        methods.attach(built, methods.get("vl-adapter-multiple", rank=4), tasks=("vqa", "gqa"))
        torch.manual_seed(1)
        perturb(built.pet, 0.2)
        built.set_dropout(0.0)
        if checkpointing:
            getattr(built.lm, "activation_checkpointing_enable", built.lm.gradient_checkpointing_enable)()
        losses = [built(text(), seen(), labels=text(length=3), task=task).loss for task in ("vqa", "gqa")]
        with context.task(ambient):
            sum(losses).backward()
        gradients.append({n: p.grad for n, p in built.named_parameters() if p.grad is not None})
    assert any(".gqa." in name for name in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1])


@each
def test_half_precision_and_autocast(family, name):
    built, _ = attached(family, name)
    ids, feats, labels = padded(text(), 4, built), seen(), text(length=3)
    exact = built(ids, feats, labels=labels).loss
    built.train()
    built.set_dropout(0.0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = built(ids, feats, labels=labels).loss
    loss.backward()
    torch.testing.assert_close(loss, exact, atol=0.1, rtol=0.05)
    built.to(torch.bfloat16).zero_grad()
    if family == "t5":
        for block in (*built.lm.encoder.block, *built.lm.decoder.block):
            block.layer[-1].DenseReluDense.wo.float()
    loss = built(ids, feats.bfloat16(), labels=labels).loss
    loss = sum((m.penalty() for m in built.modules() if hasattr(m, "penalty")), loss)
    loss.backward()
    torch.testing.assert_close(loss, exact, atol=0.2, rtol=0.1)
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.grad is not None)


@each
def test_two_steps_change_what_is_trained_and_nothing_else(family, name):
    built = model(family)
    handle = methods.attach(built, chosen(name))
    built.train()
    before = {key: p.detach().clone() for key, p in built.named_parameters()}
    optimizer = torch.optim.SGD([p for p in built.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        boxes = torch.rand(2, 2, 9, 4)
        loss = built(text(), seen(images=2), boxes, labels=text(length=3)).loss
        sum((m.penalty() for m in built.modules() if hasattr(m, "penalty")), loss).backward()
        optimizer.step()
    trained = set(handle.trainable_names())
    for key, parameter in built.named_parameters():
        if key in trained:
            assert parameter.grad.abs().max() > 0, key
        else:
            assert parameter.grad is None
            assert torch.equal(parameter, before[key]), key


@each
@torch.no_grad()
def test_saved_loaded_and_detached(family, name, tmp_path):
    built = model(family)
    before = {key: value.clone() for key, value in built.named_parameters()}
    logits = built(text(), seen()).logits
    handle = methods.attach(built, chosen(name))
    for parameter in handle.trained().values():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    tuned = built(text(), seen()).logits
    assert not torch.allclose(tuned, logits, atol=1e-4)
    handle.save(tmp_path / "weights.safetensors")
    fresh = model(family)
    other = methods.attach(fresh, chosen(name))
    other.load(tmp_path / "weights.safetensors")
    assert torch.equal(fresh(text(), seen()).logits, tuned)
    for key in set(handle.trained()) & before.keys():
        built.get_parameter(key).copy_(before[key])
    handle.detach()
    assert torch.equal(built(text(), seen()).logits, logits)
    assert built.state_dict().keys() == model(family).state_dict().keys()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in built.modules())


@each
def test_a_copied_model_is_its_own(family, name):
    built, _ = attached(family, name)
    ids, feats = text(), seen()
    with torch.no_grad():
        built.generate(ids, feats, num_beams=2, max_new_tokens=2)
        logits = built(ids, feats).logits
        with torch.enable_grad():
            built(ids, feats)  # what it keeps of a forward pass is no obstacle
        twin = copy.deepcopy(built)
        assert torch.equal(twin(ids, feats).logits, logits)
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 * parameter.requires_grad)
        assert not torch.allclose(twin(ids, feats).logits, logits, atol=1e-3)
        assert torch.equal(built(ids, feats).logits, logits)


# Counts on the real shapes

D, FF = 768, 3072
PROJECTOR = {"bart": 1_582_848, "t5": 1_581_312}
LAYERS = {"bart": 6, "t5": 12}
ENCODER_NORMS = {"bart": 13 * 2 * D, "t5": 25 * D}
FUSION_TABLES = 2 * (36 + 9) * D
MODAL = 2 * D + (D * 512 + 512) + 3 * (512 * D + D) + 2 * D  # norm, down, three ups, the decoder's norm
RECURRENT = (4 * D + 4) + (2 * 4 * 4 + 2 * 4) + (4 * D + D)


@pytest.fixture(scope="module")
def bases():
    return {family: backbones.build(f"{family}-base", feat_dim=2048, device="meta") for family in ("bart", "t5")}


def test_counts(bases, family):
    layers = LAYERS[family]
    wanted = {
        "clipfit": layers * D + ENCODER_NORMS[family],
        "adem-vl": FUSION_TABLES,
        "uniadapter": layers * MODAL,
        "read": 2 * layers * RECURRENT,
        "grasp-vl": 2 * 2048 * 32,
    }
    for name, trained in wanted.items():
        handle = methods.attach(bases[family], name)
        counted = handle.count()
        handle.detach()
        assert counted.trainable == PROJECTOR[family] + trained, name
        assert counted.total == counted.backbone + counted.projector + counted.new, name


def test_clipfit_is_the_published_size(bases):
    handle = methods.attach(bases["bart"], methods.get("clipfit", distill=8.0))
    counted = handle.count()
    handle.detach()
    assert (counted.trainable, counted.new, f"{counted.percent:.3f}") == (1_607_424, 0, "1.139")
