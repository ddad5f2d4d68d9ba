"""CLIPFit (Li et al., EMNLP 2024): train the biases of the FFNs' second Linears, and norms."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from methods.core.options import Norms, joined
from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import Bias, Part, Patch, Spec, Trainable

if TYPE_CHECKING:
    from methods.core.placement import Placement

# No published run on VL-BART or VL-T5; the learning rates are those of BitFit.
OPTIM = {"bart": OptimizerSettings(1e-3), "t5": OptimizerSettings(3e-3)}


class Distill(Part):
    """A term ``weight · (1 - mean cos(s, s_0))`` of the loss, s and s_0 the mean encoder states of the text alone, with
    and without tuning."""

    weight: float = Field(gt=0)

    @property
    def in_encoder(self) -> bool:
        """True: it compares encoder states."""
        return True

    @property
    def needs_wrapper(self) -> bool:
        """True: it gets the text from the wrapper."""
        return True

    def place(self, placement: "Placement") -> None:
        """Register the penalty, let it see the encoder's input, and give it the untuned values."""
        from methods.clipfit.distillation import DistillationPenalty

        penalty = DistillationPenalty(self.weight)
        new_modules, encoder = placement.modules, placement.sites.stack("enc")

        def keep_untuned() -> Callable[[], None]:
            # Only now have all parts been placed and is it decided which parameters are trained.
            unfrozen = [p for p in encoder.parameters() if p.requires_grad]
            penalty.keep_untuned([*unfrozen, *(p for module in new_modules.values() for p in module.parameters())])
            return lambda: None

        placement.set_encoder_input(penalty)
        placement.add_penalty(penalty)
        placement.model_changes.append(keep_untuned)


@method("clipfit", family="scale and bias", optim=OPTIM, order=60, listed=False)
def clipfit(
    shape: Shape, *, norms: Norms = "enc", decoder: bool = False, distill: Annotated[float, Field(ge=0)] = 0.0
) -> Spec:
    """Adaptation of CLIPFit (Li et al., EMNLP 2024): train the bias of every encoder FFN's second Linear, the encoder's
    norms and the visual projector, and add nothing (1.14 % of BART-base).

    T5 has no biases: it gets one there, zero at the start. ``decoder`` takes the decoder's FFNs as well. ``distill`` is
    the weight of ``1 - mean cos(s, s_0)``, s the mean of the encoder's states of the text alone and s_0 that of the
    model before tuning (the release has 8). It is computed exactly, by keeping the first values of the tuned vectors
    (24 576 numbers on BART-base), and costs two more passes of the encoder over the text in every update, one of them
    with a backward pass.

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
