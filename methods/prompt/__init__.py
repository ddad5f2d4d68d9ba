"""Prompt tuning (Lester et al., 2021) in the form of VL-Adapter and VL-PET: a soft prompt behind an MLP."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Part, Spec

if TYPE_CHECKING:
    from methods.core.placement import Placement


class Prompt(Part):
    """``W_2 · tanh(W_1 · E + b_1) + b_2`` in front of the encoder's input, E a trained ``length`` x d.

    It is part of the input and no prefix of keys and values in every layer: it takes part in all that the encoder does
    with text, and the decoder attends to it.
    """

    length: int = Field(ge=1)
    mid: int = Field(ge=1)
    share: Literal["all", "none"] = "all"

    @property
    def per_task(self) -> bool:
        """Whether each task has a prompt of its own."""
        return self.share == "none"

    @property
    def needs_wrapper(self) -> bool:
        """True: the wrapper puts the prompt in front of the text."""
        return True

    @property
    def in_encoder(self) -> bool:
        """True: it is part of the encoder's input."""
        return True

    def place(self, placement: "Placement") -> None:
        """Build the prompt, or one per task, and let it make the encoder's input."""
        from methods.prompt.soft_prompt import PromptInput, SoftPrompt

        make, d = placement.make, placement.sites.shape.d

        def build() -> SoftPrompt:
            return SoftPrompt(self.length, d, self.mid, make)

        placement.set_encoder_input(PromptInput(make.per_task(build) if self.per_task else build()))


# VL-PET's script leaves the image-text rate open, VL-Adapter's has 1e-3; T5 from LST's script.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-3),
}


@method("prompt", family="prompt", optim=OPTIM, order=11)
@method(
    "prompt-multiple",
    family="prompt",
    about="One prompt per task.",
    defaults={"share": "none"},
    optim={family: OptimizerSettings(o.lr, task_prefix=False) for family, o in OPTIM.items()},
    order=41,
)
def prompt(shape: Shape, *, length: int = 40, mid: Rank = 800, share: Literal["all", "none"] = "all") -> Spec:
    """A prompt of 40 tokens behind an MLP of width 800, in front of text and visual tokens (2.00 % of BART-base).

    On BART it gets no position but passes the embedding norm; on T5 it takes part in the relative position bias. Norms
    and biases stay frozen. Where the official code has a width of 768, d is used here. Unlike there, the length of the
    prompt does not shift the positions of the text, and there is no decoder prompt (its length there is 0).
    """
    return Spec(parts=(Prompt(length=length, mid=mid, share=share),))
