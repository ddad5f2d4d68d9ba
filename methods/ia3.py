"""IA3 (Liu et al., 2022): a trained factor per channel of keys, values and the FFN's middle; and in VL-PET's frame."""

from methods.core.options import At, Layers, Norms, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import SITES, Patch, Spec, Trainable
from methods.vl_pet import FACTOR, T5, VALUE, GateName, around, four_sizes

SCALED = tuple(site for site in SITES if site.endswith((".k", ".v", "ff.mid")))


@method(
    "ia3", family="scale and bias", optim={"bart": OptimizerSettings(3e-3), "t5": OptimizerSettings(3e-3)}, order=22
)
def ia3(shape: Shape, *, at: At = SCALED, layers: Layers = "all", norms: Norms = "none") -> Spec:
    """``l ⊙ k``, ``l ⊙ v`` and ``l ⊙ middle`` in every layer of both stacks, all l 1 at the start.

    No published run on VL-BART or VL-T5. Factors need a higher learning rate than matrices: 3e-3, as in the IA3 paper.
    """
    return Spec(parts=(Patch(at=at, layers=layers, gate=FACTOR),), trainable=Trainable(norms=joined(norms)))


@four_sizes("ia3", t5={key: T5[key] for key in ("gate_rank", "scale", "zero_init")}, order=122, listed=False)
def ia3_vl_pet(
    shape: Shape,
    *,
    gate: GateName = "large",
    gate_rank: Rank = 96,
    scale: float = 1.0,
    zero_init: bool = False,
    norms: Norms = "enc",
) -> Spec:
    """IA3's factors in the encoder, VL-PET's gates at its outputs, a factor on the cross-attention values.

    Not in the paper. H already contains the effect of the factors, so the gated sites have no ΔH; with ``middleY`` the
    gate itself is IA3 on H.
    """
    factors = Patch(at=(*(site for site in SCALED if site.startswith("enc.")), *VALUE), gate=FACTOR)
    frame = {"gate": gate, "gate_rank": gate_rank, "scale": scale, "zero_init": zero_init, "norms": norms}
    return around(factors, shape, **frame)
