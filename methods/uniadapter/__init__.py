"""UniAdapter (ICLR 2024): one adapter per layer for all modalities, with an up-projection for each."""

from typing import TYPE_CHECKING

from pydantic import Field

from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Part, Spec

if TYPE_CHECKING:
    from methods.core.placement import Placement

# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}


class UniAdapter(Part):
    """``H + scale · W_up · relu(W_down · LN(X))`` beside every FFN; layer i of both stacks has one W_down and one LN.

    The encoder has one W_up for text and one for visual tokens, the decoder a third. With ``cross_modal`` the decoder
    adds ``LN(W_cross · z + W_text · z)`` instead, and with ``query_residual`` also the text adapter of the states from
    which cross-attention makes its queries.
    """

    r: int = Field(ge=1)
    scale: float
    cross_modal: bool
    query_residual: bool

    @property
    def needs_wrapper(self) -> bool:
        """True: the wrapper says which tokens are visual."""
        return True

    def place(self, placement: "Placement") -> None:
        """Build one set of weights per layer and, in either stack, the adapters that use it."""
        from methods.blocks.patched_site import PatchedSite
        from methods.core.patching import place_site
        from methods.uniadapter.modal_adapter import DecoderAdapter, EncoderAdapter, ModalWeights

        make, sites = placement.make, placement.sites
        encoder, decoder = (dict(enumerate(sites.ports(f"{stack}.ff.out"))) for stack in ("enc", "dec"))
        for index in sorted(encoder.keys() | decoder.keys()):
            weights = ModalWeights(
                sites.shape.d,
                self.r,
                text=index in encoder or self.cross_modal or self.query_residual,
                visual=index in encoder,
                cross=index in decoder,
                make=make,
            )
            placement.add_module(f"both_{index}_ff", weights)
            if index in encoder:
                module = PatchedSite(EncoderAdapter(weights, self.scale))
                place_site(placement, encoder[index], module, delta_input="x", needs_context=True)
            if index in decoder:
                norm = make.norm(sites.shape.d) if self.cross_modal else None
                adapter = DecoderAdapter(weights, norm, self.scale, self.query_residual)
                if self.query_residual:
                    (attention,) = sites.ports("dec.xa.out", (index,))
                    placement.observe_input(attention.x, adapter.store_query)
                place_site(placement, decoder[index], PatchedSite(adapter), delta_input="x")


@method("uniadapter", family="adapter", optim=OPTIM, order=62, listed=False)
def uniadapter(
    shape: Shape,
    *,
    rank: Rank = 512,
    delta_scale: float = 0.1,
    cross_modal: bool = True,
    query_residual: bool = True,
) -> Spec:
    """Adaptation of UniAdapter (Lu et al., ICLR 2024): beside every FFN ``0.1 · W_up · relu(W_down · LN(X))``, W_down
    shared by text and visual tokens and by layer i of both stacks, while each of them has a W_up of its own.

    Rank 512, scale, the norm on the input and the start (W_down Kaiming-uniform, the text's W_up 0, other W_up torch's
    default) are the release's. Visual tokens are the last ones of the encoder's input; a prompt counts as text.

    What maps. The release's BLIP encodes images and text each with its own up-projection: so does the encoder here, in
    one sequence. Its layers with cross-attention add ``0.1 · LN(W_cross · z + W_text · z)`` (``cross_modal``) and, from
    the input of cross-attention, ``0.1 · W_text · z`` (``query_residual``): so does the decoder here, where
    cross-attention is. What does not: text and image never meet in cross-attention of the encoder, because they are one
    sequence; its BERT adds the result behind the block's norm, here it is added before (as in its ViT), so BART's norm
    sees it; its frame-aware attention and its adapter on video keys and values are left out. On T5 X is the residual
    stream before the block's norm, as in its ViT. Layers of the longer stack have weights of their own.

    Uncertain: which start the release's ``init_weights`` leaves in effect, rank and rates for this suite.
    """
    part = UniAdapter(r=rank, scale=delta_scale, cross_modal=cross_modal, query_residual=query_residual)
    return Spec(parts=(part,))
