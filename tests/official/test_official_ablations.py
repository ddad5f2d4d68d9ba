"""Official state dicts of VL-PET's ablations: what the release's switches put elsewhere is told from the tensors."""

import pytest
import torch
import torch.nn.functional as F
from official_dicts import FEATS, FF, RV, D, Official, R, act, dense

import methods
from bench.errors import UsageError

LAYER = "model.decoder.layers.1"
X, H = torch.randn(2, 2, 5, D, generator=torch.Generator().manual_seed(1))


def bare(gate="large"):
    """VL-PET without its decoder."""
    sd = Official("bart")
    sd.multihead()
    if gate is not None:
        sd.gates(gate)
    sd.train("layer_norm", "layernorm", within="encoder.")
    return sd


def added(sd, name, u):
    at = f"{name}.adapters.gqa"
    return dense(sd, f"{at}.up_sampler", act(dense(sd, f"{at}.down_sampler", u)))


def low_rank_gate(sd, name, x):
    return torch.sigmoid(dense(sd, f"{name}_up", act(dense(sd, f"{name}_down", x))))


# official controller -> our placement, the key of its module, and H' of X and H with the controller's name
PLACED = {
    "decoder_enc_attn_key_value_adapter": ("key-value", "xa_kv", lambda sd, name: H + added(sd, name, H)),
    "decoder_enc_attn_adapter": ("attention", "xa_out", lambda sd, name: H + added(sd, name, H)),
    "decoder_self_attn_adapter": ("self-attention", "sa_out", lambda sd, name: H + added(sd, name, H)),
    "decoder_ff_adapter": ("ff", "ff_out", lambda sd, name: H + added(sd, name, H)),
    "encoder_attn.attn_value_parallel_adapter": ("value", "xa_v", lambda sd, name: H + added(sd, name, X)),
    # what the released code computes: the value projection is skipped
    "encoder_attn.enc_attn_value_sequential_adapter": (
        "value-sequential",
        "xa_v",
        lambda sd, name: X + added(sd, name, X),
    ),
}


@pytest.mark.parametrize("controller", PLACED)
def test_where_the_decoder_has_its_adapters(controller):
    placement, key, wanted = PLACED[controller]
    sd = bare()
    for i in range(2):
        sd.adapter(f"model.decoder.layers.{i}.{controller}", RV)
    loaded = sd.read("vl-pet-large")
    assert loaded.method.overrides.get("decoder", "value") == placement
    assert loaded.handle.count().trainable == sd.count()
    module = loaded.model.pet[f"dec_1_{key}"]
    u = X if "value" in placement and placement != "key-value" else H
    torch.testing.assert_close(module(X, H, u), wanted(sd, f"{LAYER}.{controller}"))


def test_a_gate_behind_cross_attention():
    sd = bare()
    for i in range(2):
        layer = f"model.decoder.layers.{i}"
        sd.adapter(f"{layer}.decoder_enc_attn_adapter", RV)
        sd.linear(f"{layer}.decoder_enc_attn_adapter_gating_large_x_down", D, RV)
        sd.linear(f"{layer}.decoder_enc_attn_adapter_gating_large_x_up", RV, D)
    module = sd.load("vl-pet-large").pet["dec_1_xa_out"]
    name = f"{LAYER}.decoder_enc_attn_adapter"
    wanted = (H + added(sd, name, H)) * low_rank_gate(sd, f"{name}_gating_large_x", X)
    torch.testing.assert_close(module(X, H), wanted)


@pytest.mark.parametrize(
    ("name", "width", "key", "placement"),
    [("encoder_attn.attn_value_ia3", D, "xa_v", "value-ia3"), ("decoder_ff_ia3", FF, "ff_mid", "ff-ia3")],
)
def test_vectors_in_the_decoder(name, width, key, placement):
    sd = bare()
    for i in range(2):
        sd.add(f"model.decoder.layers.{i}.{name}", width)
    loaded = sd.read("vl-pet-large")
    assert loaded.method.overrides["decoder"] == placement
    h = torch.randn(2, 5, width)
    torch.testing.assert_close(loaded.model.pet[f"dec_1_{key}"](h, h), h * sd[f"{LAYER}.{name}"])


@pytest.mark.parametrize("gate", ["large-full", "layernorm", "l2norm", "middleX added"])
def test_gates_that_a_name_does_not_tell_are_overrides(gate):
    sd = bare(None if gate != "middleX added" else "middleX")
    sd.values()
    for holder, kind in sd.encoder():
        name = f"{holder}encoder_{kind}_adapter_gating_"
        if gate == "large-full":
            sd.linear(f"{name}large_x", D, D)
        elif gate == "layernorm":
            sd.add(f"{name}layernorm.weight", D)
            sd.add(f"{name}layernorm.bias", D)
    changed = {"gate": "middleX", "gate_op": "add"} if gate == "middleX added" else {"gate": gate}
    loaded = sd.read(methods.get("vl-pet-large", **changed))
    assert loaded.handle.count().trainable == sd.count()

    layer = "model.encoder.layers.1."
    heads = torch.cat([dense(sd, f"{layer}ff_adapter_multihead_down.{i}", H) for i in range(4)], -1)
    hhat = H + dense(sd, f"{layer}ff_adapter_multihead_up", act(heads))
    name = f"{layer}encoder_ff_adapter_gating_"
    wanted = {
        "large-full": lambda: hhat * torch.sigmoid(dense(sd, f"{name}large_x", X)),
        "layernorm": lambda: F.layer_norm(hhat, [D], sd[f"{name}layernorm.weight"], sd[f"{name}layernorm.bias"]),
        "l2norm": lambda: hhat / hhat.norm(dim=-1, keepdim=True),
        "middleX added": lambda: hhat + torch.sigmoid(dense(sd, f"{name}middle_xy_add", X + hhat)),
    }
    torch.testing.assert_close(loaded.model.pet["enc_1_ff_out"](X, H), wanted[gate]())


@pytest.mark.parametrize("gated", [False, True])
def test_a_visual_projector_of_low_rank(gated):
    sd = bare()
    sd.values()
    visual = "model.encoder.visual_embedding"
    for name in [name for name in sd if name.startswith(f"{visual}.feat_embedding")]:
        sd.trained.discard(name)
        del sd[name]
    for head in range(2):
        sd.linear(f"{visual}.visual_projector_multihead_down.{head}", FEATS, R // 2)
    sd.linear(f"{visual}.visual_projector_multihead_up", R, D)
    sd.add(f"{visual}.visual_projector_layer_norm.weight", D)
    sd.add(f"{visual}.visual_projector_layer_norm.bias", D)
    if gated:
        sd.linear(f"{visual}.visual_projector_gating_large_x_down", FEATS, R)
        sd.linear(f"{visual}.visual_projector_gating_large_x_up", R, D)
    loaded = sd.read("vl-pet-large")
    assert loaded.handle.count().trainable == sd.count()

    feats = torch.randn(1, 4, FEATS)
    down = [dense(sd, f"{visual}.visual_projector_multihead_down.{i}", feats) for i in range(2)]
    tokens = dense(sd, f"{visual}.visual_projector_multihead_up", act(torch.cat(down, -1)))
    if gated:
        tokens = tokens * low_rank_gate(sd, f"{visual}.visual_projector_gating_large_x", feats)
    norm = f"{visual}.visual_projector_layer_norm"
    wanted = F.layer_norm(tokens, [D], sd[f"{norm}.weight"], sd[f"{norm}.bias"])
    torch.testing.assert_close(loaded.model.visual_embedding.feat_embedding(feats), wanted)


def test_what_is_not_there_is_not_taken_for_an_ablation():
    with pytest.raises(UsageError, match="attn_value_parallel_adapter"):
        bare().load("vl-pet-large")
    assert "dec_0_xa_v" not in bare().load(methods.get("vl-pet-large", decoder="none")).pet
