"""How new parameters start: what the official runs had in effect, which differs by backbone."""

import math
from typing import Any

import pytest
import torch
from tiny_models import wrapper
from torch import Tensor

import methods

D, RANK = 192, 64
SIZES = {"bart": {"d_model": D}, "t5": {"d_model": D, "d_kv": 48}}


def normal(std: float) -> Any:
    def check(tensor: Tensor) -> bool:
        near = abs(float(tensor.std()) / std - 1) < 0.15 and abs(float(tensor.mean())) < 0.3 * std
        return near and float(tensor.abs().max()) > 2 * std  # which U with this std does not reach

    return check


def uniform(bound: float) -> Any:
    def check(tensor: Tensor) -> bool:
        near = abs(float(tensor.std()) / (bound / math.sqrt(3)) - 1) < 0.2
        return near and 0.85 * bound < float(tensor.abs().max()) <= bound

    return check


def glorot(fan_in: int, fan_out: int) -> Any:
    """With gain √2."""
    return uniform(math.sqrt(2) * math.sqrt(6 / (fan_in + fan_out)))


def constant(value: float) -> Any:
    return lambda tensor: bool((tensor == value).all())


def torch_default(fan_in: int) -> Any:
    """Kaiming-uniform with a = √5, which for a weight is U(±1/√fan_in)."""
    return uniform(fan_in**-0.5)


N, ZERO, ONE = normal(0.02), constant(0.0), constant(1.0)
FROM_D, FROM_R = torch_default(D), torch_default(RANK)
PET = {"rank": RANK, "gate_rank": RANK, "decoder_rank": RANK}
PLAIN = PET | {"zero_init": False}

# method, options, tensor, start on BART, start on T5
STARTS = [
    ("vl-pet-large", PET, "enc_0_sa_out.delta.down.weight", N, FROM_D),
    ("vl-pet-large", PET, "enc_0_sa_out.delta.down.bias", ZERO, FROM_D),
    ("vl-pet-large", PET, "enc_0_sa_out.delta.up.weight", N, ZERO),
    ("vl-pet-large", PET, "enc_0_sa_out.delta.up.bias", ZERO, ZERO),
    ("vl-pet-large", PET, "enc_1_ff_out.gate.body.down.weight", N, FROM_D),
    ("vl-pet-large", PET, "enc_1_ff_out.gate.body.down.bias", ZERO, FROM_D),
    ("vl-pet-large", PET, "enc_1_ff_out.gate.body.up.weight", N, ZERO),
    ("vl-pet-large", PET, "enc_1_ff_out.gate.body.up.bias", ZERO, ZERO),
    ("vl-pet-large", PET, "dec_0_xa_v.delta.down.weight", N, FROM_D),
    ("vl-pet-large", PET, "dec_0_xa_v.delta.up.weight", N, ZERO),
    ("vl-pet-large", PET, "dec_0_xa_v.delta.up.bias", ZERO, ZERO),
    ("vl-pet-large", PLAIN, "enc_0_sa_out.delta.up.weight", N, FROM_R),
    ("vl-pet-large", PLAIN, "enc_0_sa_out.delta.up.bias", ZERO, FROM_R),
    ("vl-pet-large", PLAIN, "enc_0_sa_out.gate.body.up.weight", N, FROM_R),
    ("vl-pet-large", PLAIN | {"init": "normal"}, "dec_0_xa_v.delta.up.weight", N, N),
    ("vl-pet-large", PLAIN | {"init": "normal"}, "enc_0_sa_out.gate.body.down.bias", ZERO, ZERO),
    ("vl-pet-large", PLAIN | {"init": "torch"}, "enc_0_sa_out.delta.down.bias", FROM_D, FROM_D),
    ("vl-pet-large", PLAIN | {"arrange": "pair"}, "enc_0_sa_out.delta.up.weight", N, torch_default(RANK // 4)),
    ("vl-pet-large", PET | {"arrange": "pair"}, "enc_0_sa_out.delta.up.weight", N, ZERO),
    ("vl-pet-middleX", PET, "enc_0_sa_out.gate.body.weight", N, ZERO),
    ("vl-pet-middleX", PLAIN, "enc_0_sa_out.gate.body.weight", N, FROM_D),
    ("vl-pet-small", PET, "enc_0_sa_out.gate.body.weight", N, ZERO),
    ("vl-pet-small", PLAIN, "enc_0_sa_out.gate.body.weight", N, torch_default(2 * D)),
    ("vl-pet-middleY", PET, "enc_0_sa_out.gate.z", N, ZERO),
    ("vl-pet-middleY", PLAIN, "enc_0_sa_out.gate.z", N, N),
    ("vl-pet-large", PET | {"decoder": "value-ia3"}, "dec_0_xa_v.gate.z", ONE, ONE),
    ("vl-adapter", {"rank": RANK}, "dec_1_xa_out.delta.up.weight", N, FROM_R),
    ("vl-adapter", {"rank": RANK}, "dec_1_xa_out.delta.up.bias", ZERO, FROM_R),
    ("vl-adapter", {"factor": 2, "rank": RANK}, "enc_0_ff_out.delta.down.left", glorot(D, 2), glorot(D, 2)),
    ("vl-adapter", {"factor": 2, "rank": RANK}, "enc_0_ff_out.delta.up.right", glorot(2, D), glorot(2, D)),
    ("vl-adapter", {"ln_before": True}, "enc_0_ff_out.delta.before.weight", ONE, ONE),
    ("compacter", {"rank": RANK, "phm": 8}, "enc_0_sa_out.delta.down.rule", normal(0.01), normal(0.01)),
    ("compacter", {"rank": RANK}, "enc_0_sa_out.delta.down.slices", *[glorot(D // 2, RANK // 2)] * 2),
    ("compacter", {"rank": RANK}, "enc_0_sa_out.delta.up.slices", *[glorot(D // 2, RANK // 2)] * 2),
    ("compacter", {"rank": RANK}, "enc_0_sa_out.delta.up.bias", ZERO, ZERO),
    ("compacter-original", {"rank": RANK}, "enc_0_sa_out.delta.down.left", *[glorot(D // 4, 1)] * 2),
    ("compacter+vl-pet-large", PET, "enc_0_sa_out.delta.up.slices", glorot(D // 2, RANK // 2), ZERO),
    ("lora", {"rank": RANK}, "dec_0_xa_q.delta.a.weight", FROM_D, FROM_D),
    ("lora", {"rank": RANK}, "dec_0_xa_q.delta.b.weight", ZERO, ZERO),
    ("ia3", {}, "enc_0_ff_mid.gate.z", ONE, ONE),
    ("adapter", {"rank": RANK}, "enc_0_ff_out.delta.up.weight", N, N),
    ("adapter", {"rank": RANK}, "enc_0_ff_out.delta.down.bias", ZERO, ZERO),
    ("pfeiffer", {"rank": RANK}, "enc_0_ff_out.delta.down.weight", N, N),
    ("parallel", {"rank": RANK}, "enc_0_ff_out.delta.down.weight", FROM_D, FROM_D),
    ("parallel", {"rank": RANK}, "enc_0_ff_out.delta.up.weight", ZERO, ZERO),
    ("prompt", {"mid": RANK}, "input.prompt.embedding", N, normal(1.0)),
    ("prompt", {"mid": RANK}, "input.prompt.down.weight", N, FROM_D),
    ("prompt", {"mid": RANK}, "input.prompt.up.bias", ZERO, FROM_R),
    ("hyperformer", {"task_dim": 400}, "tasks.vectors.gqa", normal(1.0), normal(1.0)),
    ("hyperformer", {"task_dim": 400}, "enc_generator.layers", N, normal(1.0)),
    ("hyperformer", {"task_dim": 400, "hidden": 16}, "dec_generator.down.weight", N, torch_default(800)),
    ("hyperformer", {"rank": 16}, "dec_generator.blocks.xa.up_weight.weight", N, torch_default(8)),
    ("hyperformer", {"rank": 16}, "dec_generator.blocks.xa.up_weight.bias", ZERO, torch_default(8)),
]


@pytest.mark.parametrize("name, options, tensor, on_bart, on_t5", STARTS, ids=lambda v: v if isinstance(v, str) else "")
def test_start_values(family, name, options, tensor, on_bart, on_t5):
    model = wrapper(family, **SIZES[family])
    methods.attach(model, methods.get(name, **options))
    start = model.pet.get_parameter(tensor)
    assert (on_bart if family == "bart" else on_t5)(start.detach()), (start.mean(), start.std(), start.abs().max())


def test_biases_that_t5_lacks_start_at_zero():
    model = wrapper("t5")
    methods.attach(model, "bitfit")
    assert all(constant(0.0)(p) for p in model.pet.parameters())


def test_a_low_rank_projector_starts_as_other_matrices_do(family):
    model = wrapper(family, **SIZES[family])
    methods.attach(model, methods.get("projector-only", projector="lowrank", projector_rank=RANK, projector_gate="mul"))
    low = model.visual_embedding.feat_embedding[0]
    for body in (low.body, low.gate):
        assert (N if family == "bart" else FROM_R)(body.up.weight.detach())


@pytest.mark.parametrize("size, factor", [("small", 0.15), ("middleX", 0.15), ("large", 0.15), ("middleY", 0.3)])
@torch.no_grad()
def test_t5_starts_at_a_fixed_fraction_of_h_at_every_encoder_site(size, factor):
    """σ(0) = 1/2 or 1 + 0, times s = 0.3; nothing happens in the decoder."""
    lm = wrapper("t5").lm
    x, states = torch.randn(2, 5, 32) * 3, torch.randn(2, 6, 32)

    def blocks() -> list[Tensor]:
        return [
            y - x
            for block in lm.encoder.block
            for y in (block.layer[0](x)[0], block.layer[1](x))
        ]  # fmt: skip

    plain, decoder = blocks(), lm.decoder.block[1](x, None, None, states)[0]
    methods.attach(lm, f"vl-pet-{size}")
    for start, h in zip(blocks(), plain, strict=True):
        torch.testing.assert_close(start, factor * h, atol=2e-6, rtol=1e-6)
    assert torch.equal(lm.decoder.block[1](x, None, None, states)[0], decoder)


@torch.no_grad()
def test_gates_on_bart_start_about_a_half():
    """Nothing starts at the identity there."""
    lm = wrapper("bart", d_model=D).lm
    block = lm.model.encoder.layers[0]
    x = torch.randn(2, 5, D)
    plain = block.fc2(block.activation_fn(block.fc1(x)))
    for size in ("small", "middleX", "large"):
        handle = methods.attach(lm, f"vl-pet-{size}")
        start = block.fc2(block.activation_fn(block.fc1(x)))
        slope = (start * plain).sum() / plain.pow(2).sum()
        assert 0.4 < slope < 0.6
        handle.detach()
