"""Houlsby adapters (Houlsby et al., 2019) in the form of AdapterHub's ``double_seq_bn``, and under VL-PET's gate."""

from typing import Literal

from methods.registry import Optim, Rank, method
from methods.shape import Shape
from methods.spec import Bottleneck, Init, Patch, Spec, Trainable
from methods.vl_pet import OPTIM, STACKS, T5, GateName, Norms, gate_called, gated

Act = Literal["gelu_tanh", "relu", "silu"]
BLOCKS = ("enc.sa.out", "enc.ff.out", "dec.sa.out", "dec.ff.out")


# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
@method(
    "adapter",
    optim={"bart image-text": Optim(1e-3), "bart video-text": Optim(3e-4), "t5": Optim(3e-4)},
    order=21,
)
def adapter(
    shape: Shape,
    *,
    rank: Rank = 48,
    act: Act = "silu",
    cross_adapter: bool = False,
    norms: Norms = "none",
) -> Spec:
    """``H + W_up · silu(W_down · H)`` after every self-attention and FFN of both stacks, rank d/16.

    Defaults and start values (N(0, 0.02²), zero biases) are AdapterHub's, which leaves cross-attention out unless
    ``cross_adapter``. The original paper trains the norms as well: ``norms="all"``.
    """
    at = (*BLOCKS, "dec.xa.out") if cross_adapter else BLOCKS
    delta = Bottleneck(r=rank, act=act, init="normal", init_up="normal")
    return Spec(parts=(Patch(at=at, delta=delta),), trainable=Trainable(norms=STACKS[norms]))


@method("adapter+vl-pet-large", t5=T5 | {"rank": 48}, optim=OPTIM, order=114)
def adapter_vl_pet(
    shape: Shape,
    *,
    rank: Rank = 48,
    act: Act = "silu",
    gate: GateName = "large",
    gate_rank: Rank = 96,
    value_rank: Rank = 48,
    scale: float = 1.0,
    zero_init: bool = False,
    norms: Norms = "enc",
) -> Spec:
    """Houlsby's encoder adapters under VL-PET's gates, its decoder replaced by a value-parallel one of the same kind.

    Not in the paper; built as its enhanced VL-Adapter is, with this adapter's own rank, activation and start.
    """
    up: Init = "zeros" if zero_init else "normal"
    return Spec(
        parts=gated(
            Bottleneck(r=rank, act=act, init="normal", init_up=up),
            Bottleneck(r=value_rank, act=act, input="x", init="normal", init_up=up) if value_rank else None,
            gate=gate_called(gate, gate_rank, zero_init),
            scale=scale,
        ),
        trainable=Trainable(norms=STACKS[norms]),
    )
