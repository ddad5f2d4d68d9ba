"""READ (AAAI 2024): adapters with a recurrence inside."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from methods.core.deltas import INPUT_FORMULAS, Delta
from methods.core.options import At, Layers, Norms, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Init, Patch, Spec, Trainable

if TYPE_CHECKING:
    from torch import nn

    from methods.blocks.layer_factory import LayerFactory

ENCODER = ("enc.sa.out", "enc.ff.out")
# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}


class Recurrent(Delta):
    """``W_up · RNN(W_down · u)``: a bottleneck of rank r with a one-layer tanh recurrence over the tokens in it.

    With ``gelu`` the recurrence is followed by a gelu; with ``near_zero`` it starts at N(0, 0.001²) instead of torch's
    default; ``init`` is the start rule of both projections.
    """

    r: int = Field(ge=1)
    gelu: bool = False
    near_zero: bool = False
    init: Init = "normal"

    @property
    def needs_token_mask(self) -> bool:
        """True: a token's ΔH depends on the tokens before it."""
        return True

    @property
    def formula(self) -> str:
        """The recurrent bottleneck with what it reads and its rank."""
        inner = f"RNN(W_down · {INPUT_FORMULAS[self.input]} + b_down)"
        inner = f"gelu({inner})" if self.gelu else inner
        return f"W_up · {inner} + b_up   (rank {self.r}; tanh, over an example's tokens)"

    def build(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build the recurrent bottleneck, called with ``b n d_in`` and the token mask ``b n``."""
        from methods.read.recurrent import RecurrentBlock

        return RecurrentBlock(d_in, self.r, d_out, gelu=self.gelu, near_zero=self.near_zero, init=self.init, make=make)


@method("read", family="adapter", optim=OPTIM, order=63, listed=False)
def read(
    shape: Shape,
    *,
    rank: Rank = 4,
    gelu: bool = False,
    start: Literal["torch", "near-zero"] = "torch",
    at: At = ENCODER,
    layers: Layers = "all",
    norms: Norms = "none",
) -> Spec:
    """Adaptation of READ, the recurrent adapter of Nguyen et al. (AAAI 2024): ``H + W_up · RNN(W_down · H)`` after
    every self-attention and FFN of the encoder. (Not the REcurrent ADaption of 2023, which has the same name.)

    The recurrence runs over an example's tokens in the encoder's order, [prompt ;] text, then visual tokens, forwards,
    and skips padding of the text: visual tokens depend on the text, and text does not depend on them. (Padded frames of
    a video are tokens here, as everywhere in the suite.) Rank 4, biases, one tanh layer and no scale are those of the
    release's BART for video summaries; ``gelu`` (after the recurrence) and ``start="near-zero"`` (N(0, 0.001²) for the
    recurrence) are of its other model, which has rank 32.

    What differs. The release has a single such adapter, in one encoder layer of its BART, over text states with the
    video states aligned to them side by side; here there is one at every block, over one sequence of both. Its BART is
    built without ``batch_first`` and so recurs over the examples of a batch, which this does not. Its alignment loss
    (partial optimal transport between video and text states) is left out: as released it moves a mass of up to
    min(n, m) between marginals that hold 1 each and scales rows by one number, so there is no objective to adapt.

    Uncertain: the start of the projections (here N(0, 0.02²) with zero biases on both backbones), rank and rates for
    this suite, and whether a recurrence over a 6 x 6 grid, which has no order, is of any use.
    """
    delta = Recurrent(r=rank, gelu=gelu, near_zero=start == "near-zero")
    return Spec(parts=(Patch(at=at, layers=layers, delta=delta),), trainable=Trainable(norms=joined(norms)))
