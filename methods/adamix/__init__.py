"""AdaMix (Wang et al., EMNLP 2022): adapters of which several stand at a site, averaged in evaluation."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from methods.core.deltas import INPUT_FORMULAS, Delta
from methods.core.options import Act, At, Layers, Norms, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Init, Part, Patch, Spec, Trainable

if TYPE_CHECKING:
    from torch import nn

    from methods.blocks.layer_factory import LayerFactory
    from methods.core.placement import Placement

FEED_FORWARD = ("enc.ff.out", "dec.ff.out")
# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}
Shared = Literal["up", "down", "none"]
"""The projection of which there is a single one for all experts."""


class MixtureOfAdapters(Delta):
    """``W_up · act(W_down · u + b_down) + b_up``, with ``experts`` versions of each projection that is not ``shared``.

    In training every forward pass draws a version of each projection, in evaluation the versions are averaged. ``init``
    is the start rule of all matrices.
    """

    r: int = Field(ge=1)
    experts: int = Field(ge=1)
    shared: Shared = "up"
    act: Act = "gelu_tanh"
    init: Init = "normal"

    @property
    def formula(self) -> str:
        """The bottleneck with what it reads, its rank and its experts."""
        inner = f"W_down · {INPUT_FORMULAS[self.input]} + b_down"
        inner = inner if self.act == "none" else f"{self.act}({inner})"
        shared = "" if self.shared == "none" else f", sharing {self.shared}"
        notes = f"rank {self.r}; {self.experts} experts{shared}: one drawn in training, their mean in evaluation"
        return f"W_up · {inner} + b_up   ({notes})"

    def build(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build the mixture ``b n d_in -> b n d_out``."""
        from methods.adamix.experts import ExpertLinear
        from methods.blocks.bottleneck import BottleneckBlock

        def matrix(name: Shared, d_in: int, d_out: int) -> "nn.Module":
            experts = 1 if self.shared == name else self.experts
            return ExpertLinear(experts, d_in, d_out, self.init, make)

        return BottleneckBlock(matrix("down", d_in, self.r), matrix("up", self.r, d_out), act=self.act)


class Consistency(Part):
    """A term ``weight · ½ (KL(p ‖ q) + KL(q ‖ p))`` of the loss, p and q the predictions of two forward passes of the
    same batch."""

    weight: float = Field(gt=0)

    def place(self, placement: "Placement") -> None:
        """Register the penalty, and have the model tell it about every forward pass."""
        from methods.adamix.consistency import ConsistencyPenalty

        penalty = ConsistencyPenalty(self.weight)
        placement.after_forward(placement.model, penalty.keep_pass)
        placement.add_penalty(penalty)


@method("adamix", family="adapter", optim=OPTIM, order=64, listed=False)
def adamix(
    shape: Shape,
    *,
    rank: Rank = 48,
    experts: Annotated[int, Field(ge=1)] = 4,
    share: Shared = "up",
    consistency: Annotated[float, Field(ge=0)] = 1.0,
    act: Act = "gelu_tanh",
    at: At = FEED_FORWARD,
    layers: Layers = "all",
    norms: Norms = "none",
) -> Spec:
    """Adaptation of AdaMix (Wang et al., EMNLP 2022): ``H + W_up · gelu(W_down · H)`` after every FFN of both stacks,
    rank d/16, with four down-projections and one up-projection at every site.

    In training every forward pass draws one of the ``experts`` at every site, for the whole batch; evaluation uses the
    mean of their weights, so it costs what one adapter costs (stored and counted are all of them). ``share`` names the
    projection of which all experts have the same; with "none" down- and up-projection are drawn independently.

    ``consistency`` is the weight of ½ (KL(p ‖ q) + KL(q ‖ p)) in the loss, p and q the predictions for the answer's
    tokens in two forward passes with other experts (and other dropout). It costs the second pass, with its backward
    pass: about twice the time of an update and twice the memory for activations. 0 leaves it out.

    What differs. AdaMix tunes BERT, RoBERTa and GPT-2, and its penalty compares the classes of an example; here it is
    averaged over the tokens of the answers. In the release it is computed for RoBERTa only. The release's gelu is the
    exact one on BERT and RoBERTa and the tanh approximation, which stands here, on GPT-2. Its mixtures of LoRA are left
    out.

    Uncertain: rank and rates for this suite (the release has rank 48 on BERT-base and 16 on RoBERTa-large).
    """
    delta = MixtureOfAdapters(r=rank, experts=experts, shared=share, act=act)
    parts: tuple[Part, ...] = (Patch(at=at, layers=layers, delta=delta),)
    if consistency:
        parts += (Consistency(weight=consistency),)
    return Spec(parts=parts, trainable=Trainable(norms=joined(norms)))
