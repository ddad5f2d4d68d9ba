"""VL-Adapter (CVPR 2022): one adapter per site for all tasks, per task, or half shared; and in VL-PET's frame."""

from methods.core.options import Act, At, Layers, Norms, Share, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Bottleneck, Patch, Spec, Trainable
from methods.vl_pet import ONE_HEAD, four_sizes, vl_pet

SITES = ("enc.sa.out", "enc.ff.out", "dec.sa.out", "dec.xa.out", "dec.ff.out")
T5 = {"rank": 192, "norms": "none"}
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}
PER_TASK = {"bart": OptimizerSettings(3e-4, task_prefix=False), "t5": OptimizerSettings(3e-4, task_prefix=False)}


@method("vl-adapter", family="adapter", t5=T5, optim=OPTIM, order=30)
def vl_adapter(
    shape: Shape,
    *,
    rank: Rank = 96,
    act: Act = "gelu_tanh",
    at: At = SITES,
    layers: Layers = "all",
    share: Share = "all",
    factor: int = 0,
    delta_scale: float = 1.0,
    ln_before: bool = False,
    ln_after: bool = False,
    norms: Norms = "all",
) -> Spec:
    """``H + W_up · gelu(W_down · H)`` after every attention and FFN of both stacks, and all norms.

    Rank d/8 and learning rates from the VL-Adapter scripts (image-text 4.18 % of BART-base; no script ships for
    half-shared); on T5 rank d/4 from LST's. There the norms stay frozen: the official switch for them tests for a class
    that its T5 does not use, and the published 7.98 % is met without them. ``factor=1`` is the official low-rank
    adapter, ``ln_before`` and ``ln_after`` put new LayerNorms around the adapter.
    """
    delta = Bottleneck(
        r=rank, act=act, share=share, factor=factor, scale=delta_scale, ln_before=ln_before, ln_after=ln_after
    )
    return Spec(
        parts=(Patch(at=at, layers=layers, delta=delta),),
        trainable=Trainable(norms=joined(norms)),
    )


for order, (ending, share, about) in enumerate(
    (
        ("multiple", "none", "One adapter per site and task."),
        ("half-down", "down", "All tasks share the down-projections; every task has its own up-projections."),
        ("half-up", "up", "All tasks share the up-projections; every task has its own down-projections."),
    ),
    start=42,
):
    preset = method(
        f"vl-adapter-{ending}",
        family="adapter",
        about=about,
        defaults={"share": share},
        t5=T5,
        optim=PER_TASK,
        order=order,
    )
    preset(vl_adapter)

# On BART as in the paper: 2.98, 2.98, 2.98 and 4.16 %. Heads that split the rows of a matrix do not change its
# function, so these compute what VL-PET computes.
four_sizes(
    "vl-adapter",
    about="VL-Adapter's encoder adapters under VL-PET's gates, its decoder replaced by a value-parallel adapter.",
    defaults=ONE_HEAD,
    order=110,
)(vl_pet)
