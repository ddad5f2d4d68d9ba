"""CLIPFit (EMNLP 2024): biases of the FFNs' second Linears and norms."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from methods.core.options import Norms, joined
from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import Bias, Part, Patch, Spec, Trainable

if TYPE_CHECKING:
    from methods.core.attach import Placement

# No published run on VL-BART or VL-T5; the learning rates are those of BitFit.
OPTIM = {"bart": OptimizerSettings(1e-3), "t5": OptimizerSettings(3e-3)}


class Distill(Part):
    """Adds ``weight · (1 - mean cos)`` to the loss, of tuned and untuned mean encoder states of the text alone."""

    weight: float = Field(gt=0)

    @property
    def in_encoder(self) -> bool:
        """It compares encoder states."""
        return True

    @property
    def wrapped(self) -> bool:
        """It takes the text from the wrapper."""
        return True

    def place(self, placement: "Placement") -> None:
        """Put it where the wrapper looks for what joins its input; keep what will be tuned once that is known."""
        from methods.clipfit.distillation import Distill as Block

        block = Block(self.weight)
        new, encoder = placement.modules, placement.sites.stack("enc")

        def keep() -> Callable[[], None]:
            tuned = [p for p in encoder.parameters() if p.requires_grad]
            block.keep([*tuned, *(p for module in new.values() for p in module.parameters())])
            return lambda: None

        placement.add("input", block)
        placement.changes.append(keep)


@method("clipfit", optim=OPTIM, order=60, listed=False)
def clipfit(
    shape: Shape, *, norms: Norms = "enc", decoder: bool = False, distill: Annotated[float, Field(ge=0)] = 0.0
) -> Spec:
    """Adaptation of CLIPFit (Li et al., EMNLP 2024): train the bias of every encoder FFN's second Linear, the encoder's
    norms and the visual projector, and add nothing (1.14 % of BART-base).

    T5 has no biases: it gets one there, zero at the start. ``decoder`` takes the decoder's FFNs as well. ``distill`` is
    the weight of ``1 - mean cos(s, s_0)``, s the mean of the encoder's states of the text alone and s_0 that of the
    model before tuning (the release has 8): exact, by keeping the tuned vectors' first values (24 576 numbers on
    BART-base), and paid with two more passes of the encoder over the text, one of them backwards too, in every update.

    What differs. CLIPFit tunes a dual encoder: these biases in its text half, norms in its image half, the penalty on
    the features of class names. Features are extracted beforehand here, so that no image encoder is left to tune; the
    norms are those of the encoder that reads text and visual tokens together. (By name, as the release selects
    ``c_proj.bias``, an attention's output would be hit on other backbones; here it is the site that is selected.)

    Uncertain: rates and the weight of the penalty for this suite; the release's 8 goes with another loss.
    """
    at = ("enc.ff.out", "dec.ff.out") if decoder else ("enc.ff.out",)
    has_biases = shape.family == "bart"
    parts: tuple[Part, ...] = () if has_biases else (Patch(at=at, delta=Bias()),)
    if distill:
        parts += (Distill(weight=distill),)
    return Spec(parts=parts, trainable=Trainable(biases=at if has_biases else (), norms=joined(norms)))
