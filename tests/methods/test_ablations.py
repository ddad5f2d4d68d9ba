"""Every option of the VL-PET methods: hooked HF layers against layers written out from the formulas."""

import re
from functools import cache
from typing import Any, get_args

import pytest
import torch
from configurations import Configuration, configurations, random
from hypothesis import assume, given
from tiny_models import language_model, perturb
from torch import Tensor
from written_out import Change, Inputs, affine, bottleneck, layer_norm, normalised

import methods
from methods import MethodError
from methods.vl_pet import Decoder, GateName

# What G reads where nothing else is asked for; the names without an entry read nothing.
READS = {
    "large": "x", "large-full": "x", "middleX": "x+hhat", "middleX-figure": "x+h", "small": "cat(x,hhat)",
    "small-masked": "cat(x,hhat)", "small-figure": "cat(x,h)",
}  # fmt: skip


def gate(o: dict[str, Any], module: Any, x: Tensor, h: Tensor, change: Tensor, hhat: Tensor) -> Tensor:
    """G, before it broadcasts."""
    name = o["gate"]
    if name.startswith("self"):
        return torch.sigmoid(change)
    if name.startswith("middleY"):
        return 1 + (torch.sigmoid(module.z) if name.endswith("figure") else module.z)
    reads = READS[name] if o["gate_input"] == "default" else o["gate_input"]
    parts = [{"x": x, "h": h, "hhat": hhat}[part] for part in re.findall(r"\bx|hhat|h\b", reads)]
    u = sum(parts) if "+" in reads else torch.cat(parts, -1)
    if name == "large":
        return torch.sigmoid(bottleneck(u, module.body))
    g = torch.sigmoid(affine(u, module.body.weight, module.body.bias))
    return g.mean(1, keepdim=True) if name.startswith("small") else g


def encoder(o: dict[str, Any], pet: Any, index: int = 1) -> Change:
    """``s · G ⊙ (s_h · H + s_d · A)``, and what stands in its place."""

    layers = (0, 1) if o["layers"] == "all" else o["layers"]

    def change(point: str, x: Tensor, h: Tensor, normed: Tensor) -> Tensor:
        words = {"both": "sa.out+ff.out", "sa": "sa.out", "ff": "ff.out"}
        names = words.get(o["encoder"], o["encoder"]).split("+")
        if point not in [name.removeprefix("enc.") for name in names] or index not in layers:
            return h
        key = f"enc_{index}_{point.replace('.', '_')}"
        added = torch.zeros_like(h)
        if o["delta"] == "bottleneck":
            u = h if o["delta_input"] == "h" else x
            shape = {key: o[key] for key in ("heads", "arrange", "act")}
            added = bottleneck(u, pet[key].delta, **shape, scale=o["delta_scale"])
        hhat = o["h_scale"] * h + added
        if o["gate"] == "none":
            return o["scale"] * hhat
        if o["gate"] == "layernorm":
            return o["scale"] * layer_norm(hhat, pet[key].gate.body)
        if o["gate"] == "l2norm":
            return o["scale"] * normalised(hhat)
        g = gate(o, pet[key].gate, x, h, added, hhat)
        if o["gate"] == "self-h":
            kept = o["h_scale"] * h
            return o["scale"] * (added + (g * kept if o["gate_op"] == "mul" else g + kept))
        return o["scale"] * (g * hhat if o["gate_op"] == "mul" else hhat + g)

    return change


def decoder(o: dict[str, Any], pet: Any, index: int = 1) -> Change:
    """One row a placement: its point, and H' there."""
    heads = {"heads": o["decoder_heads"], "arrange": "down", "act": o["act"], "scale": o["decoder_scale"]}

    def change(point: str, x: Tensor, h: Tensor, normed: Tensor) -> Tensor:
        def a(u: Tensor) -> Tensor:
            return bottleneck(u, module.delta, **heads)

        def g() -> Tensor:
            return torch.sigmoid(bottleneck(x, module.gate.body))

        placed = {
            "none": ("", lambda: h),
            "value": ("xa.v", lambda: h + a(x)),
            "value-sequential": ("xa.v", lambda: h + a(h)),
            "value-residual": ("xa.v", lambda: x + h),
            "value-gated": ("xa.v", lambda: x + h * g()),
            "key": ("xa.k", lambda: h + a(x)),
            "key-value": ("xa.kv", lambda: h + a(h)),
            "self-value": ("sa.v", lambda: h + a(x)),
            "attention": ("xa.out", lambda: h + a(h)),
            "attention-gated": ("xa.out", lambda: g() * (h + a(h))),
            "self-attention": ("sa.out", lambda: h + a(h)),
            "ff": ("ff.out", lambda: h + a(h)),
            "outputs": ("sa.out xa.out ff.out", lambda: h + a(h)),
            "value-ia3": ("xa.v", lambda: module.gate.z * h),
            "value-ia3-add": ("xa.v", lambda: h + module.gate.z * h),
            "ff-ia3": ("ff.mid", lambda: module.gate.z * h),
            "ff-ia3-add": ("ff.mid", lambda: h + module.gate.z * h),
        }
        where, changed = placed[o["decoder"]]
        if point not in where.split() or o["quirk"].startswith("unused"):
            return h
        module = pet[f"dec_{index}_{point.replace('.', '_')}"]
        return x + a(x) if o["quirk"] == "value-skips-projection" else changed()

    return change


@cache
def model(family: str, **changes: Any) -> Any:
    return language_model(family, **changes).double()


@torch.no_grad()
def check(family: str, chosen: methods.ResolvedMethod, **changes: Any) -> None:
    lm = model(family, **changes)
    handle = methods.attach(lm, chosen)
    try:
        torch.manual_seed(1)
        perturb(lm.pet, 0.3)
        o = chosen.options(methods.Shape.of(lm.config))
        inputs = Inputs()
        inputs.compare(lm, "enc", encoder(o, lm.pet))
        inputs.compare(lm, "dec", decoder(o, lm.pet))
    finally:
        handle.detach()


@pytest.mark.parametrize("op", ["mul", "add"])
@pytest.mark.parametrize("delta_input", ["h", "x"])
@pytest.mark.parametrize("name", get_args(GateName))
def test_gates(family, name, delta_input, op):
    op = "mul" if name in ("none", "layernorm", "l2norm") else op  # nothing is added there
    options = {"gate": name, "gate_op": op, "delta_input": delta_input, "gate_rank": 6, "decoder": "none"}
    check(family, methods.get("vl-pet-large", **options, scale=0.7, zero_init=False))


@pytest.mark.parametrize("name", ["large", "middleX", "small", "large-full"])
@pytest.mark.parametrize("reads", ["x", "h", "hhat", "x+h", "x+hhat", "cat(x,h)", "cat(x,hhat)"])
def test_what_gates_read(family, name, reads):
    check(family, methods.get("vl-pet-large", gate=name, gate_input=reads, zero_init=False))


@pytest.mark.parametrize("arrange", ["plain", "down", "up", "down_up", "pair"])
@pytest.mark.parametrize("act", ["gelu_tanh", "relu", "silu", "tanh", "none"])
def test_heads_and_activations(family, arrange, act):
    heads = 1 if arrange == "plain" else 4
    check(family, methods.get("vl-pet-large", arrange=arrange, heads=heads, act=act, rank=8, zero_init=False))


ONE_WIDTH: dict[str, dict[str, int]] = {"bart": {}, "t5": {"d_kv": 8}}  # of V and E; on the other T5 48 and 32
WIDTHS = r"at dec\.xa\.v: X has width 32 and H 48"


WITHOUT = ("none", "value-residual", "value-gated", "value-ia3", "value-ia3-add", "ff-ia3", "ff-ia3-add")


@pytest.mark.parametrize("options", [{"decoder_heads": 2}, {"decoder_scale": 0.6}])
@pytest.mark.parametrize("name", WITHOUT)
def test_a_decoder_without_bottleneck_has_no_heads_and_no_scale_of_one(family, name, options):
    with pytest.raises(MethodError, match=f"decoder='{name}' has no bottleneck"):
        check(family, methods.get("vl-pet-large", decoder=name, **options))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", get_args(Decoder))
def test_decoders(family, name, heads):
    shaped = {} if name in WITHOUT else {"decoder_heads": heads, "decoder_scale": 0.6}
    chosen = methods.get("vl-pet-large", decoder=name, **shaped, zero_init=False)
    if family == "t5" and name in ("value-residual", "value-gated"):  # V + E
        with pytest.raises(MethodError, match=WIDTHS):
            check(family, chosen)
    else:
        check(family, chosen)
    check(family, chosen, **ONE_WIDTH[family])


@pytest.mark.parametrize(
    "quirk, options",
    [
        ("value-skips-projection", {"decoder": "value-sequential"}),
        ("unused-self-value", {"decoder": "self-value"}),
        ("unused-value-heads", {"decoder_heads": 2}),
    ],
)
def test_quirks(family, quirk, options):
    chosen = methods.get("vl-pet-large", quirk=quirk, **options, decoder_scale=0.6, zero_init=False)
    if family == "t5" and quirk == "value-skips-projection":
        with pytest.raises(MethodError, match=WIDTHS):
            check(family, chosen)
    else:
        check(family, chosen)
    check(family, chosen, **ONE_WIDTH[family])


def drawn(option: str) -> bool:
    return not option.startswith("projector") and option not in ("norms", "biases")


@random(120)
@given(configurations(("vl-pet-small", "vl-pet-middleX", "vl-pet-middleY", "vl-pet-large"), drawn, fewest=6, most=14))
def test_options_together(configuration: Configuration):
    o = configuration.options
    reads = o["gate_input"] if o["gate_input"] != "default" else READS.get(o["gate"], "")
    assume(o["h_scale"] == 1 or reads not in ("h", "x+h", "cat(x,h)"))  # which H such a gate reads is not laid down
    check(configuration.family, configuration.chosen)


def test_pair_is_the_block_diagonal_case_of_the_others():
    lm = language_model("bart")
    methods.attach(lm, methods.get("vl-pet-large", arrange="pair", rank=8))
    perturb(lm.pet, 0.3)
    pair = lm.pet["enc_0_sa_out"].delta
    plain = language_model("bart")
    methods.attach(plain, methods.get("vl-pet-large", arrange="plain", heads=1, rank=8))
    stacked = plain.pet["enc_0_sa_out"].delta
    stacked.down.load_state_dict(pair.down.state_dict())
    with torch.no_grad():
        stacked.up.weight.copy_(torch.block_diag(*pair.up.weight))
        stacked.up.bias.copy_(pair.up.bias.flatten())
    u = torch.randn(2, 5, 32)
    torch.testing.assert_close(pair(u), stacked(u))
