"""Compacter (Mahabadi et al., 2021) as VL-Adapter runs it, and its VL-PET enhanced variants."""

from methods.registry import Optim, Rank, method
from methods.shape import Shape
from methods.spec import Bottleneck, Init, Patch, Spec, Trainable
from methods.vl_adapter import SITES
from methods.vl_pet import OPTIM, STACKS, T5, GateName, Norms, gate_called, gated


@method(
    "compacter",
    t5={"norms": "none"},
    optim={"bart image-text": Optim(1e-3), "bart video-text": Optim(3e-4), "t5": Optim(3e-4)},
    order=12,
)
def compacter(shape: Shape, *, rank: Rank = 96, phm: int = 2, norms: Norms = "all") -> Spec:
    """VL-Adapter's adapters with matrices that are sums of ``phm`` Kronecker products, and all norms.

    As in the VL-Adapter script (n=2, r=96, 2.70 % of BART-base): the rule is learned per matrix, not shared by layers,
    and the slices are not factorised, other than in the Compacter paper. The image-text learning rate is VL-Adapter's;
    the others, which no script gives, are those of VL-Adapter's adapter. On T5 the norms stay frozen, as there.
    """
    return Spec(
        parts=(Patch(at=SITES, delta=Bottleneck(r=rank, phm=phm)),),
        trainable=Trainable(norms=STACKS[norms]),
    )


@method("compacter+vl-pet-small", defaults={"gate": "small"}, t5=T5, optim=OPTIM, order=100)
@method("compacter+vl-pet-middleX", defaults={"gate": "middleX"}, t5=T5, optim=OPTIM, order=101)
@method("compacter+vl-pet-middleY", defaults={"gate": "middleY"}, t5=T5, optim=OPTIM, order=102)
@method("compacter+vl-pet-large", t5=T5, optim=OPTIM, order=103)
def compacter_vl_pet(
    shape: Shape,
    *,
    rank: Rank = 96,
    phm: int = 2,
    gate: GateName = "large",
    gate_rank: Rank = 96,
    value_rank: Rank = 96,
    scale: float = 1.0,
    zero_init: bool = False,
    norms: Norms = "enc",
) -> Spec:
    """Compacter's encoder adapters under VL-PET's (dense) gates; in the decoder a value-parallel Compacter alone.

    The paper has it on BART: 2.08, 2.07, 2.07 and 3.28 %, met only with Compacter on the values as well, which the
    released trainer cannot build. T5 takes VL-PET's own ranks, scale and zero start.
    """
    up: Init = "zeros" if zero_init else "backbone"
    return Spec(
        parts=gated(
            Bottleneck(r=rank, phm=phm, init_up=up),
            Bottleneck(r=value_rank, phm=phm, input="x", init_up=up) if value_rank else None,
            gate=gate_called(gate, gate_rank, zero_init),
            scale=scale,
        ),
        trainable=Trainable(norms=STACKS[norms]),
    )
