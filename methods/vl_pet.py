"""VL-PET (ICCV 2023): granularity-controlled modification in the encoder, a lightweight decoder, and their ablations.

Encoder: at the output of every self-attention and FFN, ``H' = s · G ⊙ (H + ΔH)``, ΔH a bottleneck with heads. Decoder:
a bottleneck on the encoder's output beside every cross-attention value projection, and nothing else. The encoder's
norms and the visual projector are trained as well. What the release ablates by its switches are options here, in the
form that the paper describes; where its code computes something else, that is a :data:`Quirk`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from methods.core.errors import MethodError
from methods.core.options import Act, Biases, Encoder, Layers, Norms, Start, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Bottleneck, Delta, Gate, Init, Patch, Spec, Trainable

ENCODER = ("enc.sa.out", "enc.ff.out")
VALUE = ("dec.xa.v",)

GateName = Literal[
    "none", "small", "small-masked", "middleX", "middleY", "large", "large-full",
    "small-figure", "middleX-figure", "middleY-figure", "self", "self-h", "layernorm", "l2norm",
]  # fmt: skip
SIZES: tuple[GateName, ...] = ("small", "middleX", "middleY", "large")
GateInput = Literal["default", "x", "h", "hhat", "x+h", "x+hhat", "cat(x,h)", "cat(x,hhat)"]

# As the released code computes them; those ending in "-figure" as the paper's figure draws them. "small" averages over
# every position, padding included, and so depends on how a batch is padded; "small-masked" averages over tokens. "self"
# is σ(ΔH) on H + ΔH, "self-h" on H alone (the release's gate in the adapter's place); the norms replace the gate.
GATES: dict[str, dict[str, Any]] = {
    "small": {"kind": "dense", "input": "cat(x,hhat)", "out": "scalar", "pool": "mean"},
    "small-masked": {"kind": "dense", "input": "cat(x,hhat)", "out": "scalar", "pool": "masked_mean"},
    "small-figure": {"kind": "dense", "input": "cat(x,h)", "out": "scalar", "pool": "mean"},
    "middleX": {"kind": "dense", "input": "x+hhat", "out": "token"},
    "middleX-figure": {"kind": "dense", "input": "x+h", "out": "token"},
    "middleY": {"kind": "vector", "out": "channel", "squash": "one_plus"},
    "middleY-figure": {"kind": "vector", "out": "channel", "squash": "one_plus_sigmoid"},
    "large": {"kind": "lowrank", "input": "x", "out": "full"},
    "large-full": {"kind": "dense", "input": "x", "out": "full"},
    "self": {"kind": "self"},
    "self-h": {"kind": "self", "target": "h"},
    "layernorm": {"kind": "layernorm"},
    "l2norm": {"kind": "l2norm"},
}
# Learning rates of the VL-PET scripts; there is no T5 script for video-text, so T5 keeps its own.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(7e-4),
    "t5": OptimizerSettings(3e-4),
}


def named_gate(
    name: GateName,
    rank: int,
    zero_init: bool,
    *,
    input: GateInput = "default",
    op: Literal["mul", "add"] = "mul",
    init: Start = "backbone",
) -> Gate | None:
    """Return the gate called ``name``; its last layer starts at zero with ``zero_init``.

    Raises MethodError for an input or an operation that this gate cannot have.
    """
    if name == "none":
        if (input, op) != ("default", "mul"):
            raise MethodError(f"gate='none' reads and does nothing; leave out gate_input={input!r} and gate_op={op!r}")
        return None
    fields = GATES[name] | ({"r": rank} if name == "large" else {}) | ({"op": op} if op != "mul" else {})
    if input != "default":
        if fields.get("input", "none") == "none":
            raise MethodError(f"gate={name!r} reads no input; leave gate_input at 'default'")
        fields |= {"input": input}
    return Gate(**fields, init_down=init, init="zeros" if zero_init else init)


Decoder = Literal[
    "none", "value", "value-sequential", "value-residual", "value-gated", "key", "key-value", "self-value", "attention",
    "attention-gated", "self-attention", "ff", "outputs", "value-ia3", "value-ia3-add", "ff-ia3", "ff-ia3-add",
]  # fmt: skip
Quirk = Literal["none", "value-skips-projection", "unused-self-value", "unused-value-heads"]
"""What the released code computes for some ablations: ``value-skips-projection`` V = E + A(E), for
decoder="value-sequential"; ``unused-self-value`` and ``unused-value-heads`` modules that are built and counted but
never on the path of the data, for decoder="self-value", and for decoder="value" with decoder_heads > 1. That its key
adapter scrambles keys and values is not reproduced."""
QUIRK_OF = {
    "value-skips-projection": "value-sequential",
    "unused-self-value": "self-value",
    "unused-value-heads": "value",
}

_Make = Callable[..., Delta]
Build = Callable[..., Spec]


def _low_rank_gate(r: int) -> Gate:
    return Gate(kind="lowrank", input="x", r=r)


# l ⊙ v with l at 1, or v + l ⊙ v with the release's start of l, N(0, 0.02²).
FACTOR = Gate(kind="vector", out="channel", squash="none", init="ones")
ADDED_FACTOR = Gate(kind="vector", out="channel", squash="one_plus", init="normal")


# The decoder's patch by name, from a function that makes a bottleneck and the rank of a gate.
DECODERS: dict[str, Callable[[_Make, int], Patch]] = {
    "value": lambda delta, r: Patch(at=VALUE, delta=delta(input="x")),
    "value-sequential": lambda delta, r: Patch(at=VALUE, delta=delta(input="h")),
    "value-residual": lambda delta, r: Patch(at=VALUE, plus_x=True),
    "value-gated": lambda delta, r: Patch(at=VALUE, gate=_low_rank_gate(r), plus_x=True),
    "key": lambda delta, r: Patch(at=("dec.xa.k",), delta=delta(input="x")),
    "key-value": lambda delta, r: Patch(at=("dec.xa.kv",), delta=delta(input="h")),
    "self-value": lambda delta, r: Patch(at=("dec.sa.v",), delta=delta(input="x")),
    "attention": lambda delta, r: Patch(at=("dec.xa.out",), delta=delta(input="h")),
    "attention-gated": lambda delta, r: Patch(at=("dec.xa.out",), delta=delta(input="h"), gate=_low_rank_gate(r)),
    "self-attention": lambda delta, r: Patch(at=("dec.sa.out",), delta=delta(input="h")),
    "ff": lambda delta, r: Patch(at=("dec.ff.out",), delta=delta(input="h")),
    "outputs": lambda delta, r: Patch(at=("dec.sa.out", "dec.xa.out", "dec.ff.out"), delta=delta(input="h")),
    "value-ia3": lambda delta, r: Patch(at=VALUE, gate=FACTOR),
    "value-ia3-add": lambda delta, r: Patch(at=VALUE, gate=ADDED_FACTOR),
    "ff-ia3": lambda delta, r: Patch(at=("dec.ff.mid",), gate=FACTOR),
    "ff-ia3-add": lambda delta, r: Patch(at=("dec.ff.mid",), gate=ADDED_FACTOR),
}


def decoder_parts(name: Decoder, delta: _Make, rank: int, quirk: Quirk = "none") -> tuple[Patch, ...]:
    """Return the decoder placement called ``name``: one patch, or none.

    Args:
        name: name of the placement.
        delta: makes a bottleneck with the fields it is called with.
        rank: of a gate in the decoder.
        quirk: raises MethodError where it belongs to another placement.
    """
    if quirk != "none" and name != QUIRK_OF[quirk]:
        raise MethodError(f"quirk={quirk!r} is one of decoder={QUIRK_OF[quirk]!r}, not of {name!r}")
    if name == "none":
        return ()
    patch = DECODERS[name](delta, rank)
    if quirk == "value-skips-projection":
        patch = Patch(at=VALUE, delta=delta(input="x"), keep="x")
    if quirk.startswith("unused"):
        patch = patch.model_copy(update={"unused": True})
    return (patch,)


ONE_HEAD = {"heads": 1, "arrange": "plain"}
T5 = {"rank": 192, "gate_rank": 192, "scale": 0.3, "zero_init": True}


@method(
    "vl-pet-small",
    family="VL-PET",
    about="VL-PET with one gate value per example.",
    defaults={"gate": "small"},
    t5=T5,
    optim=OPTIM,
    order=90,
)
@method(
    "vl-pet-middleX",
    family="VL-PET",
    about="VL-PET with one gate value per token.",
    defaults={"gate": "middleX"},
    t5=T5,
    optim=OPTIM,
    order=91,
    aliases=("vl-pet-middle",),
)
@method(
    "vl-pet-middleY",
    family="VL-PET",
    about="VL-PET with one gate value per channel.",
    defaults={"gate": "middleY"},
    t5=T5,
    optim=OPTIM,
    order=92,
)
@method(
    "vl-pet-large",
    family="VL-PET",
    about="VL-PET with one gate value per token and channel.",
    t5=T5,
    optim=OPTIM,
    order=93,
)
def vl_pet(
    shape: Shape,
    *,
    rank: Rank = 96,
    heads: int = 4,
    arrange: Literal["plain", "down", "up", "down_up", "pair"] = "down",
    phm: int = 0,
    act: Act = "gelu_tanh",
    delta: Literal["bottleneck", "none"] = "bottleneck",
    delta_input: Literal["h", "x"] = "h",
    delta_scale: float = 1.0,
    h_scale: float = 1.0,
    gate: GateName = "large",
    gate_input: GateInput = "default",
    gate_op: Literal["mul", "add"] = "mul",
    gate_rank: Rank = 96,
    scale: float = 1.0,
    encoder: Encoder = "both",
    layers: Layers = "all",
    decoder: Decoder = "value",
    decoder_rank: Rank = 96,
    decoder_heads: int = 1,
    decoder_scale: float = 1.0,
    init: Start = "backbone",
    zero_init: bool = False,
    norms: Norms = "enc",
    biases: Biases = "none",
    quirk: Quirk = "none",
) -> Spec:
    """VL-PET as in the released scripts; on T5 rank and gate rank 192, scale 0.3 and zero-initialised projections.

    Encoder: ``rank``, ``heads``, ``arrange``, ``phm``, ``act``, ``delta_input``, ``delta_scale`` describe the
    bottleneck ΔH (with ``delta="none"`` there is only the gate), ``h_scale`` multiplies H. ``gate`` is the name of a
    size, that size as the paper's figure draws it, ``large-full`` (a full matrix), ``self`` (σ of ΔH), a norm in the
    gate's place, or ``none``; ``gate_input`` replaces what it reads, and with ``gate_op="add"`` it is added. ``scale``
    is s; ``encoder`` and ``layers`` are the sites. Decoder: one module of rank ``decoder_rank`` at the place that
    ``decoder`` names. ``init`` is the start rule of the matrices; with ``zero_init`` the up-projections and the gate's
    last layer start at zero.
    """
    up: Init = "zeros" if zero_init else init
    if quirk == "unused-value-heads" and decoder_heads == 1:
        raise MethodError("quirk='unused-value-heads' is one of decoder_heads > 1")

    def decoder_delta(**fields: Any) -> Delta:
        return Bottleneck(
            r=decoder_rank,
            heads=decoder_heads,
            arrange="plain" if decoder_heads == 1 else "down",
            phm=phm,
            act=act,
            scale=decoder_scale,
            init=init,
            init_up=up,
            **fields,
        )

    bottleneck = Bottleneck(
        r=rank,
        heads=heads,
        arrange=arrange,
        phm=phm,
        act=act,
        input=delta_input,
        scale=delta_scale,
        init=init,
        init_up=up,
    )
    encoder_delta = bottleneck if delta == "bottleneck" else None
    encoder_gate = named_gate(gate, gate_rank, zero_init, input=gate_input, op=gate_op, init=init)
    at = encoder_sites(encoder)
    parts = decoder_parts(decoder, decoder_delta, decoder_rank, quirk)
    if (decoder_heads, decoder_scale) != (1, 1.0) and not any(part.delta for part in parts):
        raise MethodError(f"decoder={decoder!r} has no bottleneck: leave decoder_heads and decoder_scale at 1")
    if at and (encoder_delta or encoder_gate or (scale, h_scale) != (1.0, 1.0)):
        patch = Patch(at=at, layers=layers, delta=encoder_delta, gate=encoder_gate, scale=scale, h_scale=h_scale)
        parts = (patch, *parts)
    return Spec(parts=parts, trainable=Trainable(norms=joined(norms), biases=joined(biases)))


def around(patch: Patch, shape: Shape, **frame: Any) -> Spec:
    """Return a method of VL-PET's encoder gates without ΔH, its trained norms, and ``patch`` at sites of its own.

    ``frame`` are options of :func:`vl_pet`.
    """
    spec = vl_pet(shape, delta="none", decoder="none", **frame)
    return spec.model_copy(update={"parts": (*spec.parts, patch)})


def four_sizes(
    base: str,
    *,
    order: int,
    about: str = "",
    defaults: Mapping[str, Any] | None = None,
    t5: Mapping[str, Any] = T5,
    listed: bool = True,
) -> Callable[[Build], Build]:
    """Register the decorated method, which has an option ``gate``, as ``BASE+vl-pet-SIZE`` in the four sizes.

    The arguments are those of :func:`methods.core.registry.method`; ``order`` is that of the smallest size.
    """

    def register(build: Build) -> Build:
        for place, size in enumerate(SIZES):
            preset = method(
                f"{base}+vl-pet-{size}",
                family="enhanced",
                about=about,
                defaults={"gate": size, **(defaults or {})},
                t5=t5,
                optim=OPTIM,
                order=order + place,
                listed=listed,
            )
            preset(build)
        return build

    return register


def encoder_sites(option: Encoder) -> tuple[str, ...]:
    """Return the sites that the option ``encoder`` names.

    >>> encoder_sites("both"), encoder_sites("none"), encoder_sites("sa+enc.ff.out")
    (('enc.sa.out', 'enc.ff.out'), (), ('enc.sa.out', 'enc.ff.out'))
    """
    if option == "both":
        return ENCODER
    return tuple({"sa": ENCODER[0], "ff": ENCODER[1]}.get(name, name) for name in joined(option))
