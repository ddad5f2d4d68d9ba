"""What becomes of the visual projector: trained, frozen, or of low rank with its gates."""

import pytest
import torch
from tiny_models import FEATURES, batch, perturb, wrapper
from torch import Tensor
from written_out import affine, layer_norm, rms, tanh_gelu

import methods
from methods import MethodError


def bottleneck(u: Tensor, module) -> Tensor:
    return affine(tanh_gelu(affine(u, module.down.weight, module.down.bias)), module.up.weight, module.up.bias)


@pytest.mark.parametrize("gate", ["none", "mul", "residual"])
@torch.no_grad()
def test_low_rank_projector_is_the_formula(family, gate):
    """F, F ⊙ G or F + F ⊙ G before the norm, with G = σ of another bottleneck of the features."""
    model, given = wrapper(family), batch()
    part = model.visual_embedding
    feats, boxes, words = given["vis_feats"], given["boxes"], model.lm.get_input_embeddings().weight
    rest = part(feats, boxes) - part.feat_embedding(feats)  # boxes and both orders
    chosen = methods.get("projector-only", projector="lowrank", projector_rank=3, projector_gate=gate)
    handle = methods.attach(model, chosen)
    low = part.feat_embedding[0]
    perturb(low, 0.3)
    f = bottleneck(feats, low.body)
    if gate != "none":
        gated = f * torch.sigmoid(bottleneck(feats, low.gate))
        f = gated if gate == "mul" else f + gated
    norm = layer_norm if family == "bart" else rms
    torch.testing.assert_close(part(feats, boxes), norm(f, part.feat_embedding[1]) + rest, atol=1e-5, rtol=1e-5)
    size = FEATURES * 3 + 3 + 3 * 32 + 32
    full = FEATURES * 32 + 32
    whole = sum(p.numel() for p in wrapper(family).visual_embedding.parameters()) - words.numel()
    assert handle.count().projector + handle.count().new == whole - full + size * (1 if gate == "none" else 2)
    assert handle.count().trainable == handle.count().projector + handle.count().new
    assert not words.requires_grad


def test_a_frozen_projector_is_frozen_and_the_rest_is_trained(family):
    model = wrapper(family)
    handle = methods.attach(model, methods.get("vl-pet-large", projector="frozen"))
    assert handle.count().projector == 0
    model(**batch()).loss.backward()
    assert all(p.grad is None for p in model.visual_embedding.parameters())
    assert all(not name.startswith("visual_embedding") for name in handle.trainable_names())
    other = wrapper(family)
    with pytest.raises(MethodError, match="leaves nothing to train"):
        methods.attach(other, methods.get("projector-only", projector="frozen"))
    assert not hasattr(other, "pet")


def test_a_low_rank_projector_is_not_merged_away():
    model = wrapper("bart")
    handle = methods.attach(model, methods.get("lora", projector="lowrank", projector_rank=3))
    wanted = model(**batch()).logits
    with pytest.raises(MethodError, match=r"cannot be merged.*low-rank projector"):
        handle.merge()
    assert torch.equal(model(**batch()).logits, wanted)
