"""Compacter (Mahabadi et al., 2021): as VL-Adapter runs it, as in its own paper, and in VL-PET's frame."""

from methods.core.options import At, Layers, Norms, Share, joined
from methods.core.registry import Rank, method
from methods.core.shape import Shape
from methods.core.spec import Bottleneck, Patch, Spec, Trainable
from methods.vl_adapter import OPTIM, PER_TASK, SITES
from methods.vl_pet import ONE_HEAD, four_sizes, vl_pet


@method("compacter", family="adapter", t5={"norms": "none"}, optim=OPTIM, order=12)
@method(
    "compacter-multiple",
    family="adapter",
    about="One adapter per site and task.",
    defaults={"share": "none"},
    t5={"norms": "none"},
    optim=PER_TASK,
    order=45,
)
@method(
    "compacter-original",
    family="adapter",
    about="As in the Compacter paper: n=4, r=d/32, slices of rank 1, one rule for all matrices.",
    defaults={"rank": 24, "phm": 4, "phm_rank": 1, "phm_shared": True},
    optim=OPTIM,
    order=25,
)
def compacter(
    shape: Shape,
    *,
    rank: Rank = 96,
    phm: int = 2,
    phm_rank: int = 0,
    phm_shared: bool = False,
    at: At = SITES,
    layers: Layers = "all",
    share: Share = "all",
    norms: Norms = "all",
) -> Spec:
    """VL-Adapter's adapters with matrices that are sums of ``phm`` Kronecker products, and all norms.

    As in the VL-Adapter script (n=2, r=96, 2.70 % of BART-base), and unlike in the Compacter paper, each matrix has a
    rule of its own and the slices are not factorised (``phm_rank`` 0). The image-text learning rate
    is VL-Adapter's; the others, which no script gives, are those of VL-Adapter's adapter. On T5 the norms stay frozen,
    as there.
    """
    delta = Bottleneck(r=rank, phm=phm, phm_rank=phm_rank, phm_shared=phm_shared, share=share)
    return Spec(
        parts=(Patch(at=at, layers=layers, delta=delta),),
        trainable=Trainable(norms=joined(norms)),
    )


# On BART as in the paper: 2.08, 2.07, 2.07 and 3.28 %, met only with Compacter on the values as well, which the
# released trainer cannot build. Gates are dense.
four_sizes(
    "compacter",
    about="Compacter's encoder adapters under VL-PET's gates, its decoder replaced by a value-parallel Compacter.",
    defaults={"phm": 2} | ONE_HEAD,
    order=100,
)(vl_pet)
