"""Hooked HF layers against layers written out from the formulas, head by head."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import language_model, perturb, text
from torch import Tensor

import methods
from methods.vl_pet import GATES

HEADS = 4


def tanh_gelu(u: Tensor) -> Tensor:
    return 0.5 * u * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (u + 0.044715 * u**3)))


def bottleneck(u: Tensor, module, arrange: str, act=tanh_gelu) -> Tensor:
    """One small matrix per head, as the official modules have them, cut out of the stacked weights."""
    down, up = module.down, module.up
    r = down.weight.shape[0]
    heads = HEADS if arrange != "plain" else 1
    width = r // heads
    hidden = [
        u @ down.weight[i * width : (i + 1) * width].T + down.bias[i * width : (i + 1) * width] for i in range(heads)
    ]
    if arrange == "pair":
        return torch.cat([act(part) @ up.weight[i].T + up.bias[i] for i, part in enumerate(hidden)], dim=-1)
    z = act(torch.cat(hidden, dim=-1))
    out = up.weight.shape[0] // heads
    return torch.cat(
        [z @ up.weight[i * out : (i + 1) * out].T + up.bias[i * out : (i + 1) * out] for i in range(heads)], dim=-1
    )


def gate(name: str, module, x: Tensor, h: Tensor, hhat: Tensor) -> Tensor:
    sigmoid = torch.sigmoid
    if name == "middleY":
        return 1 + module.z
    if name == "middleY-figure":
        return 1 + sigmoid(module.z)
    body = module.body
    if name == "large":
        return sigmoid(tanh_gelu(x @ body.down.weight.T + body.down.bias) @ body.up.weight.T + body.up.bias)
    w, b = body.weight, body.bias
    if name == "large-full":
        return sigmoid(x @ w.T + b)
    if name.startswith("middleX"):
        return sigmoid((x + (h if name.endswith("figure") else hhat)) @ w.T + b)
    d = x.shape[-1]
    scores = x @ w[:, :d].T + (h if name.endswith("figure") else hhat) @ w[:, d:].T + b
    return sigmoid(scores).mean(1, keepdim=True)


def modified(name: str, arrange: str, scale: float, module, x: Tensor, h: Tensor) -> Tensor:
    hhat = h + bottleneck(h, module.delta, arrange)
    g = 1 if name == "none" else gate(name, module.gate, x, h, hhat)
    return scale * (g * hhat)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    split = lambda t: t.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    q, k, v = split(q), split(k), split(v)
    weights = torch.softmax(scale * q @ k.transpose(-1, -2), dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def layer_norm(u: Tensor, norm) -> Tensor:
    centred = u - u.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def rms(u: Tensor, norm) -> Tensor:
    return u / (u.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight


def bart_encoder_layer(layer, x: Tensor, pet, change) -> Tensor:
    a = layer.self_attn
    heads = attention(
        *(F.linear(x, p.weight, p.bias) for p in (a.q_proj, a.k_proj, a.v_proj)), a.num_heads, a.head_dim**-0.5
    )
    h = F.linear(heads, a.out_proj.weight, a.out_proj.bias)
    x = layer_norm(x + change(pet["enc_1_sa_out"], x, h), layer.self_attn_layer_norm)
    u = F.linear(x, layer.fc1.weight, layer.fc1.bias)
    h = F.linear(0.5 * u * (1 + torch.erf(u / 2**0.5)), layer.fc2.weight, layer.fc2.bias)
    return layer_norm(x + change(pet["enc_1_ff_out"], x, h), layer.final_layer_norm)


def t5_encoder_layer(layer, x: Tensor, pet, change) -> Tensor:
    a, ff = layer.layer[0].SelfAttention, layer.layer[1].DenseReluDense
    normed = rms(x, layer.layer[0].layer_norm)
    h = attention(normed @ a.q.weight.T, normed @ a.k.weight.T, normed @ a.v.weight.T, a.n_heads, 1.0) @ a.o.weight.T
    x = x + change(pet["enc_1_sa_out"], x, h)  # the gate reads the residual stream, not its norm
    h = rms(x, layer.layer[1].layer_norm) @ ff.wi.weight.T
    return x + change(pet["enc_1_ff_out"], x, h.relu() @ ff.wo.weight.T)


def encoder_layers(family: str, lm, x: Tensor, pet, change) -> tuple[Tensor, Tensor]:
    """(hooked HF layer, written-out layer) of encoder layer 1."""
    if family == "bart":
        layer = lm.model.encoder.layers[1]
        return layer(x, None), bart_encoder_layer(layer, x, pet, change)
    layer = lm.encoder.block[1]
    return layer(x)[0], t5_encoder_layer(layer, x, pet, change)


@pytest.mark.parametrize(
    "name",
    ["none", *(name for name in GATES if name.startswith(("small", "middle", "large")) and name != "small-masked")],
)
@pytest.mark.parametrize("arrange", ["plain", "down", "up", "down_up", "pair"])
@torch.no_grad()
def test_hooked_encoder_layer_is_the_formula(family, name, arrange):
    lm = language_model(family)
    heads = 1 if arrange == "plain" else HEADS
    chosen = methods.get("vl-pet-large", gate=name, arrange=arrange, heads=heads, rank=8, gate_rank=6, scale=0.7)
    methods.attach(lm, chosen)
    perturb(lm.pet, 0.3)
    x = torch.randn(2, 5, 32) * 3
    hooked, written = encoder_layers(
        family, lm, x, lm.pet, lambda module, x, h: modified(name, arrange, 0.7, module, x, h)
    )
    torch.testing.assert_close(hooked, written, atol=3e-6, rtol=1e-6)


@torch.no_grad()
def test_pair_is_the_block_diagonal_case_of_the_others():
    lm = language_model("bart")
    methods.attach(lm, methods.get("vl-pet-large", arrange="pair", rank=8))
    perturb(lm.pet, 0.3)
    pair = lm.pet["enc_0_sa_out"].delta
    plain = language_model("bart")
    methods.attach(plain, methods.get("vl-pet-large", arrange="plain", heads=1, rank=8))
    stacked = plain.pet["enc_0_sa_out"].delta
    stacked.down.load_state_dict(pair.down.state_dict())
    stacked.up.weight.copy_(torch.block_diag(*pair.up.weight))
    stacked.up.bias.copy_(pair.up.bias.flatten())
    u = torch.randn(2, 5, 32)
    torch.testing.assert_close(pair(u), stacked(u))


@torch.no_grad()
def test_value_parallel_adapter_is_the_formula(family):
    lm = language_model(family)
    methods.attach(lm, "vl-pet-large")
    perturb(lm.pet, 0.3)
    states, query = torch.randn(2, 6, 32), torch.randn(2, 3, 32)
    adapter = lm.pet["dec_1_xa_v"].delta
    change = bottleneck(states, adapter, "plain")
    if family == "bart":
        a = lm.model.decoder.layers[1].encoder_attn
        q, k, v = (
            F.linear(u, p.weight, p.bias) for u, p in ((query, a.q_proj), (states, a.k_proj), (states, a.v_proj))
        )
        written = F.linear(
            attention(q, k, v + change, a.num_heads, a.head_dim**-0.5), a.out_proj.weight, a.out_proj.bias
        )
    else:
        a = lm.decoder.block[1].layer[1].EncDecAttention
        q, k, v = query @ a.q.weight.T, states @ a.k.weight.T, states @ a.v.weight.T
        written = attention(q, k, v + change, a.n_heads, 1.0) @ a.o.weight.T
    torch.testing.assert_close(a(query, key_value_states=states)[0], written, atol=3e-6, rtol=1e-6)


def linears(family: str, lm) -> dict[str, torch.nn.Linear]:
    """The q, k and v projections and the FFN's second Linear by the key of the module that stands there."""
    found = {}
    for name, stack in (("enc", lm.get_encoder()), ("dec", lm.get_decoder())):
        for index, layer in enumerate(stack.layers if family == "bart" else stack.block):
            if family == "bart":
                attentions = {"sa": layer.self_attn} | ({"xa": layer.encoder_attn} if name == "dec" else {})
                down = layer.fc2
            else:
                attentions = {"sa": layer.layer[0].SelfAttention}
                attentions |= {"xa": layer.layer[1].EncDecAttention} if name == "dec" else {}
                down = layer.layer[-1].DenseReluDense.wo
            found[f"{name}_{index}_ff_mid"] = down
            for block, a in attentions.items():
                for point in "qkv":
                    found[f"{name}_{index}_{block}_{point}"] = getattr(
                        a, f"{point}_proj" if family == "bart" else point
                    )
    return found


def same_logits(one, other) -> None:
    ids = torch.randint(4, 60, (2, 6))
    out = (model(input_ids=ids, decoder_input_ids=ids).logits for model in (one, other))
    torch.testing.assert_close(*out, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_lora_is_a_change_of_the_weights(family):
    """In eval mode LoRA equals the same model with alpha / r · B A merged into q and v."""
    lm, merged = language_model(family), language_model(family)
    methods.attach(lm, methods.get("lora", rank=6, alpha=9.0))
    perturb(lm.pet, 0.2)
    where = {key: linear for key, linear in linears(family, merged).items() if key.endswith(("_q", "_v"))}
    assert set(where) == set(lm.pet)
    for key, linear in where.items():
        delta = lm.pet[key].delta
        linear.weight += 9.0 / 6 * delta.b.weight @ delta.a.weight
    same_logits(lm, merged)


@torch.no_grad()
def test_ia3_is_a_change_of_the_weights(family):
    """Factors on keys and values scale rows of the projections, those on the FFN's middle columns of its second."""
    lm, merged = language_model(family), language_model(family)
    plain = lm(**text()).logits
    methods.attach(lm, "ia3")
    assert torch.equal(lm(**text()).logits, plain)
    perturb(lm.pet, 0.3)
    where = {key: linear for key, linear in linears(family, merged).items() if not key.endswith("_q")}
    assert set(where) == set(lm.pet)
    for key, linear in where.items():
        factor = lm.pet[key].gate.z
        linear.weight *= factor if key.endswith("mid") else factor[:, None]
        if linear.bias is not None and not key.endswith("mid"):
            linear.bias *= factor
    same_logits(lm, merged)


@torch.no_grad()
def test_compacter_is_a_bottleneck_of_kronecker_sums():
    lm = language_model("bart")
    methods.attach(lm, methods.get("compacter", rank=8, phm=4))
    perturb(lm.pet, 0.5)
    adapter = lm.pet["dec_1_xa_out"].delta
    matrices = []
    for phm in (adapter.down, adapter.up):
        assert phm.rule.shape == (4, 4, 4)
        matrices.append(sum(torch.kron(a, b) for a, b in zip(phm.rule, phm.slices, strict=True)))
    u = torch.randn(2, 5, 32)
    written = tanh_gelu(u @ matrices[0] + adapter.down.bias) @ matrices[1] + adapter.up.bias
    torch.testing.assert_close(adapter(u), written, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bitfit_gives_t5_the_biases_it_lacks():
    lm = language_model("t5")
    methods.attach(lm, "bitfit")
    perturb(lm.pet, 0.3)
    block = lm.decoder.block[1].layer[2]
    ff = block.DenseReluDense
    bias = {key: lm.pet[f"dec_1_ff_{key}"].delta.vector for key in ("up", "out")}
    x = torch.randn(2, 5, 32)
    normed = rms(x, block.layer_norm) + lm.pet["dec_1_ff_ln"].delta.vector
    hidden = (normed @ ff.wi.weight.T + bias["up"]).relu()
    torch.testing.assert_close(block(x), x + hidden @ ff.wo.weight.T + bias["out"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lm.lm_head(x), x @ lm.shared.weight.T + lm.pet["lm_0_head"].delta.vector)
    norm = lm.encoder.final_layer_norm
    torch.testing.assert_close(norm(x), rms(x, norm) + lm.pet["enc_0_end_ln"].delta.vector)


@pytest.mark.parametrize("size, factor", [("small", 0.15), ("middleX", 0.15), ("large", 0.15), ("middleY", 0.3)])
@torch.no_grad()
def test_t5_starts_at_a_fixed_fraction_of_h(size, factor):
    lm = language_model("t5")
    x = torch.randn(2, 5, 32) * 3
    block = lm.encoder.block[0].layer[1]
    plain = block.DenseReluDense(block.layer_norm(x))
    methods.attach(lm, f"vl-pet-{size}")
    torch.testing.assert_close(block(x) - x, factor * plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name, independent", [("small", False), ("small-masked", True)])
@torch.no_grad()
def test_small_gate_and_padding(family, name, independent, attention):
    """The official mean moves with the padding of the batch; the masked mean does not."""
    lm = language_model(family, attn_implementation=attention)
    methods.attach(lm, methods.get("vl-pet-small", gate=name, zero_init=False))
    perturb(lm.pet, 0.3)
    ids = torch.randint(4, 60, (1, 5))
    padded = torch.nn.functional.pad(ids, (0, 4), value=lm.config.pad_token_id)
    other = torch.randint(4, 60, (1, 9))
    alone = lm.get_encoder()(input_ids=ids, attention_mask=torch.ones(1, 5)).last_hidden_state
    mask = torch.ones(2, 9)
    mask[0, 5:] = 0
    together = lm.get_encoder()(input_ids=torch.cat([padded, other]), attention_mask=mask).last_hidden_state[:1, :5]
    assert torch.allclose(alone, together, atol=1e-5) == independent
