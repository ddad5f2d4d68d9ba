"""Ladder side-tuning (LST: Sung et al., 2022): a narrow trained network beside the backbone, fed from its layers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from methods.core.errors import MethodError
from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import Part, Spec

if TYPE_CHECKING:
    from torch import Tensor

    from methods.core.contracts import TrainingBatch
    from methods.core.placement import Placement

Start = Literal["magnitude", "random", "fisher-v2"]
Factor = Annotated[int, Field(ge=2)]
Samples = Annotated[int, Field(ge=1)]
FISHER_SAMPLES = 1024  # of the official code
Temperature = Annotated[float, Field(gt=0)]


class Side(Part):
    """``u <- block_i(g_i u + (1 - g_i) D_i b_i)`` in every layer of both stacks, ``g_i = σ(α_i / temperature)``.

    b_i is the output of the backbone's layer, u the side network's state of width d / ``factor``; all α start at 0. The
    backbone reads text alone and no gradient enters it. Visual tokens go to the side encoder, the side decoder
    attends to that, and its last states go through a map back to width d to the backbone's own head.
    """

    factor: Factor
    temperature: Temperature
    start: Start
    samples: int = Field(default=0, ge=0)

    @property
    def training_examples(self) -> int:
        """The examples on which the Fisher information is computed."""
        return self.samples

    @property
    def needs_wrapper(self) -> bool:
        """True: it keeps the wrapper's visual tokens out of the backbone."""
        return True

    def check(self, shape: Shape) -> None:
        """Raise MethodError where ``factor`` does not divide the width of the model, of its FFN, or of a head."""
        for what, width in (("width", shape.d), ("FFN width", shape.ff), ("head width", shape.inner // shape.heads)):
            if width % self.factor:
                raise MethodError(f"a side network needs reduction {self.factor} to divide the {what}, {width}")

    def prepare(self, model: Any, examples: Iterator["TrainingBatch"]) -> dict[str, "Tensor"]:
        """Return the features of the backbone that the side network keeps, by Fisher information on the examples."""
        from methods.core.sites import Sites
        from methods.lst.fisher import fisher_information
        from methods.lst.pruning import kept_features

        sites = Sites(model.lm)
        return kept_features(sites, self.factor, fisher_information(sites, examples))

    def place(self, placement: "Placement") -> None:
        """Build the side network and plan the hooks that feed it and that put its result in place.

        A start by Fisher information for which no data were given is a random one.
        """
        from methods.lst.pruning import kept_features, magnitude
        from methods.lst.side_network import SideNetwork

        sites = placement.sites
        network = SideNetwork(sites, self.factor, self.temperature, placement.make)
        if self.start == "magnitude":
            network.cut_out_of(sites, kept_features(sites, self.factor, magnitude))
        elif placement.prepared is not None:
            network.cut_out_of(sites, placement.prepared)
        placement.set_encoder_input(network)
        for name, side in (("enc", network.encoder), ("dec", network.decoder)):
            for module in (sites.entrance(name), *sites.layers(name)):
                placement.after_forward(module, side.record)
        placement.before_forward(sites.lm, network.store_encoder_outputs)
        placement.before_forward(sites.stack("dec"), network.disable_gradients)
        placement.before_forward(sites.layers("dec")[0], network.store_decoder_mask)
        placement.after_forward(sites.stack("dec"), network.decode, always=True)


# LST's script, for T5 on image-text; BART and video-text have none and get the same.
@method(
    "lst",
    family="side network",
    optim={"bart": OptimizerSettings(3e-3, weight_decay=3e-2), "t5": OptimizerSettings(3e-3, weight_decay=3e-2)},
    order=14,
)
def lst(
    shape: Shape,
    *,
    reduction: Factor = 4,
    temperature: Temperature = 0.1,
    side_init: Start = "magnitude",
    fisher_samples: Samples = FISHER_SAMPLES,
) -> Spec:
    """A side network of a quarter of the backbone's width, with ladders from every layer (7.46 % of T5-base).

    Training keeps activations of the side network only, which is the point of LST. The published numbers are those of
    T5-base on image-text, with ``side_init="fisher-v2"``: side layers cut out of the backbone by Fisher information,
    the sum over ``fisher_samples`` examples of the run's own training data of the squared gradients of the backbone's
    loss on text alone. By default they are cut out by the ``magnitude`` of the weights, the other importance of the
    official code, which needs no data; or they start at ``random``. As in the last version of that code, every side
    layer of the decoder has the side network's relative position biases; in its first version the layers after the
    first had the backbone's.

    What differs in ``fisher-v2``: the official code takes the examples of one of its four processes, and its output
    layer has no rows for visual tokens yet. The examples come from all tasks in proportion to their sizes, as there.

    No published run on VL-BART: there the side network's text input is the output of the embedding norm, as in LST's
    BART encoder, visual tokens join it behind that norm, and no norm follows the last layer.
    """
    if side_init != "fisher-v2" and fisher_samples != FISHER_SAMPLES:
        raise MethodError(f"fisher_samples is for side_init='fisher-v2', not for {side_init!r}")
    samples = fisher_samples if side_init == "fisher-v2" else 0
    return Spec(parts=(Side(factor=reduction, temperature=temperature, start=side_init, samples=samples),))
