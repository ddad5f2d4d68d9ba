"""Houlsby adapters (Houlsby et al., 2019) in the form of AdapterHub's ``double_seq_bn``."""

from typing import Literal

from methods.registry import Optim, Rank, method
from methods.shape import Shape
from methods.spec import Bottleneck, Patch, Spec, Trainable
from methods.vl_pet import STACKS, Norms

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
    act: Literal["gelu_tanh", "relu", "silu"] = "silu",
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
