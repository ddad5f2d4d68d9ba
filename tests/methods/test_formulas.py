"""What is a change of the backbone's own weights, against a backbone with those weights; and the gates' padding."""

import pytest
import torch
from tiny_models import language_model, perturb, text
from written_out import rms

import methods


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
