"""GraSP-VL (Li et al., 2026): a rotation of the visual features that orders their columns, so that they can be cut."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from methods.core.errors import MethodError
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Part, Spec

if TYPE_CHECKING:
    from methods.core.placement import Placement

Length = Annotated[int, Field(ge=1)]
Prefix = Literal["all"] | Length
# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}


class PrefixTransform(Part):
    """``x' = (x · U) ⊙ [1 … 1 0 … 0]`` with ``U = (I - A/2)⁻¹ (I + A/2)``, ``A = B · Cᵀ - C · Bᵀ``: all but the first
    columns are 0.

    x is a feature, with f columns; B and C are f × ``r``, C starts at 0 and so U at I. In training every forward pass
    draws the number of columns that are left, from those of ``lengths`` that are smaller than f and f itself; in
    evaluation it is ``prefix``.
    """

    r: int = Field(ge=1)
    prefix: Prefix
    lengths: tuple[int, ...]

    @property
    def in_encoder(self) -> bool:
        """True: it acts in front of the encoder."""
        return True

    @property
    def needs_wrapper(self) -> bool:
        """True: the features enter the wrapper's projector."""
        return True

    def check(self, shape: Shape) -> None:
        """Raise MethodError for a prefix longer than the features, where their width is known."""
        if self.prefix != "all" and shape.columns is not None and self.prefix > shape.columns:
            raise MethodError(
                f"prefix={self.prefix} is more than the {shape.columns} columns of the visual features; use fewer, or "
                '"all"'
            )

    def place(self, placement: "Placement") -> None:
        """Build the transform and have it change what enters the visual projector."""
        from methods.grasp_vl.transform import PrefixRotation

        visual, columns = placement.sites.visual, placement.sites.shape.columns
        assert visual is not None and columns is not None  # the wrapper has a projector
        prefix = columns if self.prefix == "all" else self.prefix
        rotation = PrefixRotation(columns, self.r, prefix, self.lengths, placement.make)
        placement.add_module("features", rotation)
        placement.before_forward(visual, rotation.change_features)
        placement.add_diagnostics(rotation)


@method("grasp-vl", family="other", optim=OPTIM, order=65, listed=False)
def grasp_vl(
    shape: Shape, *, rank: Rank = 32, prefix: Prefix = "all", lengths: tuple[Length, ...] = (16, 64, 256)
) -> Spec:
    """Adaptation of GraSP-VL (Li et al., 2026, arXiv 2605.17727): the visual features, which stay frozen, are rotated
    by a trained matrix in front of the projector, and all but their first ``prefix`` columns are set to 0. Trained are
    the rotation, 2 · f · ``rank`` numbers for features of f columns, and the projector; the language model is frozen.

    In training every forward pass draws the number of columns that are left, from ``lengths`` (those below f) and f
    itself, all equally likely: so the columns that matter most come first, and one training serves every prefix. That
    training is the same whatever ``prefix`` is, which acts in evaluation. A prefix of more columns than the features
    have is an error when a sweep is planned.

    The rotation is a Cayley transform of a skew matrix of rank 2 · ``rank``, which costs the inverse of a matrix of
    that size, where f = 2048 columns would need one of f × f (Woodbury). It starts at exactly the identity and is
    orthogonal up to rounding: the largest entry of ``UᵀU - I`` stands in records as "orthogonality error".

    What differs. The original learns one transform for the image *and* text embeddings of CLIP, one vector for each, of
    annotated pairs, and gives each prefix a semantic role (objects, then attributes and relations, then a whole
    caption) by losses of its own. Here there are no text embeddings in the features' space and no roles: features are
    those of a grid or of frames, and the only loss is the suite's, on answers. Its transform is near-orthogonal and
    full; this one moves a subspace of 2 · ``rank`` columns at most and is orthogonal by construction. With all columns
    left, the projector could undo any rotation, so that it adds nothing there but the order.

    Uncertain: rank, lengths and rates for this suite, and the original's parametrisation and lengths.
    """
    return Spec(parts=(PrefixTransform(r=rank, prefix=prefix, lengths=tuple(sorted(set(lengths)))),))
