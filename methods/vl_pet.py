"""VL-PET (ICCV 2023): granularity-controlled modification in the encoder, a lightweight decoder.

Encoder: at the output of every self-attention and FFN, ``H' = s · G ⊙ (H + ΔH)``, ΔH a bottleneck with heads. Decoder:
a bottleneck from the encoder output beside every cross-attention value projection, nothing else. Trained besides: the
encoder's norms and the visual projector.
"""

from typing import Any, Literal

from methods.registry import Optim, Rank, method
from methods.shape import Shape
from methods.spec import Bottleneck, Delta, Gate, Init, Part, Patch, Spec, Trainable

ENCODER = ("enc.sa.out", "enc.ff.out")
VALUE = ("dec.xa.v",)

Norms = Literal["none", "enc", "dec", "all"]
GateName = Literal[
    "none", "small", "small-masked", "middleX", "middleY", "large", "large-full",
    "small-figure", "middleX-figure", "middleY-figure",
]  # fmt: skip
SIZES: tuple[GateName, ...] = ("small", "middleX", "middleY", "large")

# As the released code computes them; the "-figure" twins as the paper's figure draws them. "small" averages over every
# position, padding included, and so depends on how a batch is padded; "small-masked" averages over tokens.
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
}
STACKS: dict[Norms, tuple[Literal["enc", "dec"], ...]] = {
    "none": (),
    "enc": ("enc",),
    "dec": ("dec",),
    "all": ("enc", "dec"),
}
# Learning rates of the VL-PET scripts; there is no T5 script for video-text, so T5 keeps its own.
OPTIM = {"bart image-text": Optim(1e-3), "bart video-text": Optim(7e-4), "t5": Optim(3e-4)}


def gate_called(name: GateName, rank: int, zero_init: bool) -> Gate | None:
    """The gate called ``name``; its last layer starts at zero with ``zero_init``."""
    if name == "none":
        return None
    fields = GATES[name] | ({"r": rank} if name == "large" else {})
    return Gate(**fields, init="zeros" if zero_init else "backbone")


def gated(encoder: Delta | None, value: Delta | None, *, gate: Gate | None, scale: float) -> tuple[Part, ...]:
    """VL-PET's parts around any modification: gated at the encoder sites, parallel to the cross-attention values."""
    parts: list[Part] = []
    if encoder is not None or gate is not None or scale != 1.0:
        parts.append(Patch(at=ENCODER, delta=encoder, gate=gate, scale=scale))
    if value is not None:
        parts.append(Patch(at=VALUE, delta=value))
    return tuple(parts)


T5 = {"rank": 192, "gate_rank": 192, "scale": 0.3, "zero_init": True}


@method(
    "vl-pet-small",
    about="VL-PET with one gate value per example.",
    defaults={"gate": "small"},
    t5=T5,
    optim=OPTIM,
    order=90,
)
@method(
    "vl-pet-middleX",
    about="VL-PET with one gate value per token.",
    defaults={"gate": "middleX"},
    t5=T5,
    optim=OPTIM,
    order=91,
    aliases=("vl-pet-middle",),
)
@method(
    "vl-pet-middleY",
    about="VL-PET with one gate value per channel.",
    defaults={"gate": "middleY"},
    t5=T5,
    optim=OPTIM,
    order=92,
)
@method("vl-pet-large", about="VL-PET with one gate value per token and channel.", t5=T5, optim=OPTIM, order=93)
def vl_pet(
    shape: Shape,
    *,
    rank: Rank = 96,
    heads: int = 4,
    arrange: Literal["plain", "down", "up", "down_up", "pair"] = "down",
    gate: GateName = "large",
    gate_rank: Rank = 96,
    value_rank: Rank = 96,
    scale: float = 1.0,
    zero_init: bool = False,
    norms: Norms = "enc",
) -> Spec:
    """VL-PET as in the released scripts; on T5 rank and gate rank 192, scale 0.3 and zero-initialised projections.

    Options: ``rank``, ``heads`` and ``arrange`` shape the encoder's bottleneck; ``gate`` is a size by its name, its
    twin from the paper's figure, ``large-full`` (a full matrix) or ``none``; ``value_rank`` 0 leaves the decoder alone;
    ``zero_init`` starts both up-projections and the gate's last layer at zero.
    """
    up: Init = "zeros" if zero_init else "backbone"
    return Spec(
        parts=gated(
            Bottleneck(r=rank, heads=heads, arrange=arrange, init_up=up),
            Bottleneck(r=value_rank, input="x", init_up=up) if value_rank else None,
            gate=gate_called(gate, gate_rank, zero_init),
            scale=scale,
        ),
        trainable=Trainable(norms=STACKS[norms]),
    )
