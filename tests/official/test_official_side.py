"""LST's official state dicts against its forward pass, written out."""

import pytest
import torch
import torch.nn.functional as F
from official_dicts import FEATS, TINY, D, case, dense
from transformers.models.t5.modeling_t5 import T5Attention

import methods

CONFIG = TINY["t5"]()
HIDDEN = -1e4  # added to masked scores


def norm(sd, name, x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * sd[f"{name}.weight"]


def relative(sd, name, length, *, both_ways):
    """Relative position biases ``1 heads length length`` of a stack's first layer."""
    at = torch.arange(length)
    buckets = T5Attention._relative_position_bucket(
        at[None] - at[:, None], bidirectional=both_ways, num_buckets=CONFIG.relative_attention_num_buckets
    )
    return sd[f"{name}.layer.0.SelfAttention.relative_attention_bias.weight"][buckets].permute(2, 0, 1)[None]


def attention(sd, name, x, memory, bias):
    q, k, v = (
        (u @ sd[f"{name}.{point}.weight"].T).unflatten(-1, (CONFIG.num_heads, -1)).transpose(1, 2)
        for point, u in (("q", x), ("k", memory), ("v", memory))
    )
    weights = (q @ k.transpose(-1, -2) + bias).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2) @ sd[f"{name}.o.weight"].T


def block(sd, name, x, bias, memory=None, memory_bias=None):
    """One layer of T5."""
    normed = norm(sd, f"{name}.layer.0.layer_norm", x)
    x = x + attention(sd, f"{name}.layer.0.SelfAttention", normed, normed, bias)
    if memory is not None:
        normed = norm(sd, f"{name}.layer.1.layer_norm", x)
        x = x + attention(sd, f"{name}.layer.1.EncDecAttention", normed, memory, memory_bias)
    ff = f"{name}.layer.{1 if memory is None else 2}"
    middle = F.relu(norm(sd, f"{ff}.layer_norm", x) @ sd[f"{ff}.DenseReluDense.wi.weight"].T)
    return x + middle @ sd[f"{ff}.DenseReluDense.wo.weight"].T


def rung(sd, stack, i, u, b):
    """What enters the i-th side layer: the side's state and the backbone's, which visual tokens have none of."""
    g = torch.sigmoid(sd[f"{stack}.side_gate_params.{i}"] / 0.1)
    step = dense(sd, f"{stack}.side_downsamples.{i}", b)
    step = torch.cat([step, torch.zeros(len(u), u.shape[1] - b.shape[1], u.shape[2])], dim=1)
    return g * u + (1 - g) * step


def reference(sd, ids, visual, targets):
    """The logits of LST's official code."""
    text, count = sd["shared.weight"][ids], visual.shape[1]
    token_mask = (ids != CONFIG.pad_token_id).float()
    mask = (1 - token_mask)[:, None, None] * HIDDEN
    joint = F.pad(mask, (0, count))
    bias = relative(sd, "encoder.block.0", ids.shape[1], both_ways=True) + mask
    side_bias = F.pad(relative(sd, "encoder.side_block.0", ids.shape[1], both_ways=True), (0, count, 0, count)) + joint
    b, u = text, dense(sd, "encoder.side_first_downsample", torch.cat([text, visual], dim=1))
    for i in range(2):
        b = block(sd, f"encoder.block.{i}", b, bias)
        u = block(sd, f"encoder.side_block.{i}", rung(sd, "encoder", i, u, b), side_bias)
    memory = norm(sd, "encoder.final_layer_norm", b)
    side_memory = norm(sd, "encoder.final_side_layer_norm", u)

    later = torch.ones(targets.shape[1], targets.shape[1]).triu(1) * HIDDEN
    bias = relative(sd, "decoder.block.0", targets.shape[1], both_ways=False) + later
    side_bias = relative(sd, "decoder.side_block.0", targets.shape[1], both_ways=False) + later
    b = sd["shared.weight"][targets]
    u = dense(sd, "decoder.side_first_downsample", b)
    for i in range(2):
        b = block(sd, f"decoder.block.{i}", b, bias, memory, mask)
        u = block(sd, f"decoder.side_block.{i}", rung(sd, "decoder", i, u, b), side_bias, side_memory, joint)
    out = dense(sd, "side_final_upsample", norm(sd, "decoder.final_side_layer_norm", u))
    return out * D**-0.5 @ sd["lm_head.weight"].T


def test_the_forward_pass_is_the_written_out_one():
    sd = case("t5", "lst")
    model = sd.load("lst")
    ids = torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]])
    targets = torch.tensor([[0, 9, 10], [0, 11, 12]])
    feats = torch.randn(2, 4, FEATS)
    with torch.no_grad():
        visual = model.visual_embedding(feats)
        logits = model(ids, feats, decoder_input_ids=targets).logits
        torch.testing.assert_close(logits, reference(sd, ids, visual, targets))

        written = torch.zeros(2, 1, dtype=torch.long)
        for _ in range(4):
            following = reference(sd, ids, visual, written)[:, -1].argmax(-1, keepdim=True)
            written = torch.cat([written, following], dim=1)
    generated = model.generate(ids, feats, max_length=5, do_sample=False, num_beams=1)
    assert torch.equal(generated, written[:, : generated.shape[1]])


@pytest.mark.parametrize("factor", [2, 4])
def test_the_reduction_is_read_off(factor):
    sd = case("t5", "projector-only")
    sd.side(factor)
    loaded = sd.read("lst")
    assert loaded.method.options(methods.Shape.of(CONFIG))["reduction"] == factor
    assert loaded.handle.count().trainable == sd.count()
