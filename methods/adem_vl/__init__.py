"""ADEM-VL (Hao et al., 2024): visual tokens fused into the feed-forward blocks without parameters of their own."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from methods.core.errors import MethodError
from methods.core.options import At
from methods.core.registry import OptimizerSettings, method
from methods.core.shape import Shape
from methods.core.spec import Part, Spec

if TYPE_CHECKING:
    from methods.core.placement import Placement

# The sites of the fusion and, for each, a site of the same layer whose input tells from which batch the visual tokens
# to be fused are: the input of the encoder layer, and the encoder states that a decoder layer attends to.
BATCH_SITES = {"enc.ff.out": "enc.sa.out", "dec.ff.out": "dec.xa.kv"}
FEED_FORWARD = tuple(BATCH_SITES)
Grids = tuple[Annotated[int, Field(ge=1)], ...]
# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}


class AdemVL(Part):
    """``H + alpha · S̃ · (V + e_2)``, S̃ the higher of the scores ``S = silu(n) · silu(V + e_1)ᵀ``, n the FFN's input.

    V are ``beta`` times the projector's tokens, which do not enter the encoder. ``grids`` are the side lengths of an
    image's grids, the one that it comes with first. Of a token's m scores those below the one of ascending rank
    ``int(drop · m)`` are set to 0.
    """

    at: tuple[str, ...]
    grids: tuple[int, ...]
    alpha: float
    beta: float
    drop: float = Field(ge=0, lt=1)

    @property
    def in_encoder(self) -> bool:
        """Whether it has no site in the decoder."""
        return "dec.ff.out" not in self.at

    @property
    def needs_wrapper(self) -> bool:
        """True: it gets the visual tokens from the wrapper."""
        return True

    def check(self, shape: Shape) -> None:
        """Raise MethodError for any other sites."""
        if not set(self.at) <= set(FEED_FORWARD):
            raise MethodError(f"visual tokens are fused at {' and '.join(FEED_FORWARD)}, not at {', '.join(self.at)}")

    def place(self, placement: "Placement") -> None:
        """Build the memory of visual tokens and, at every site, the fusion that reads it."""
        from methods.adem_vl.fusion import FusionBlock, VisualMemory
        from methods.blocks.patched_site import PatchedSite
        from methods.core.patching import place_site

        make, sites = placement.make, placement.sites
        memory = VisualMemory(self.grids, self.beta, self.drop, placement.model.n_boxes, sites.shape.d, make)
        placement.set_encoder_input(memory)
        assert sites.visual is not None  # the wrapper has one
        placement.observe_input(sites.visual, memory.store_padding)
        placement.before_forward(sites.lm, memory.remember_encoder_outputs)
        for site in self.at:
            for port in sites.ports(site):
                fusion = FusionBlock(memory, self.alpha)
                (batch_port,) = sites.ports(BATCH_SITES[site], (port.index,))
                placement.observe_input(batch_port.x, fusion.recall_keys, batch_port.keyword)
                place_site(placement, port, PatchedSite(fusion), delta_input="x_norm")


@method("adem-vl", family="other", optim=OPTIM, order=61, listed=False)
def adem_vl(
    shape: Shape,
    *,
    at: At = FEED_FORWARD,
    grids: Grids = (6, 3),
    alpha: float = 0.1,
    beta: float = 0.01,
    drop: float = 0.1,
) -> Spec:
    """Adaptation of ADEM-VL (Hao et al., 2024): the encoder reads text alone, and FFNs add ``alpha · S̃ · (V + e_2)``
    with scores ``S = silu(n) · silu(V + e_1)ᵀ``, n its own input, V visual tokens: no softmax and no matrices.

    Two position tables are trained (e_1 from N(0, 0.02²), e_2 from 0, shared by all layers), and the visual projector.
    ``alpha``, ``beta`` (V is beta times the projector's tokens) and ``drop`` (per text token, scores below the one of
    ascending rank int(drop · m) are 0) are the release's. An image of grids[0]² tokens gets average-pooled copies of
    the other grids behind its own (the release has 16 and 8); anything else, such as a video, is its tokens alone.
    Slots of padding (rows of zeros in the features) are left out of scores, ranks and sum, which grows with m.

    What differs. The release tunes LLaMA, a decoder; here text is encoded, so that both stacks have sites (``at``). V
    comes from the suite's projector (with its norms, boxes and order), not from a bottleneck 1024 -> 128 -> d, and is
    pooled behind it, not before. Its CLS token in the prompt and its small adapters inside CLIP have no counterpart,
    since features are extracted beforehand. n is what the FFN itself reads: normed on T5, the residual stream on BART.

    Uncertain: whether the paper means a quantile or a count; what the SiLU kernel does at d = 768 (or less); alpha and
    beta need a search of their own, and so do the rates.
    """
    return Spec(parts=(AdemVL(at=at, grids=grids, alpha=alpha, beta=beta, drop=drop),))
