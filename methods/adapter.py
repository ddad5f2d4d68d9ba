"""Adapters in the form of AdapterHub's presets: Houlsby, Pfeiffer and parallel; Houlsby's also under VL-PET's gates."""

from methods.core.options import Act, At, Layers, Norms, joined
from methods.core.registry import OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import Bottleneck, Patch, Spec, Trainable
from methods.vl_pet import ONE_HEAD, T5, four_sizes, vl_pet

BLOCKS = ("enc.sa.out", "enc.ff.out", "dec.sa.out", "dec.ff.out")
FEED_FORWARD = ("enc.ff.out", "dec.ff.out")
# No published run on VL-BART or VL-T5; the learning rates are those of VL-Adapter.
OPTIM = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}


@method("adapter", family="adapter", optim=OPTIM, order=21)
def adapter(
    shape: Shape,
    *,
    rank: Rank = 48,
    act: Act = "silu",
    at: At = BLOCKS,
    layers: Layers = "all",
    cross_adapter: bool = False,
    norms: Norms = "none",
) -> Spec:
    """``H + W_up · silu(W_down · H)`` after every self-attention and FFN of both stacks, rank d/16.

    Houlsby et al. (2019) in the form of AdapterHub's ``double_seq_bn``, with its start values (N(0, 0.02²), zero
    biases); it leaves cross-attention out unless ``cross_adapter``. The original paper trains the norms as well:
    ``norms="all"``.
    """
    sites = (*at, "dec.xa.out") if cross_adapter else at
    delta = Bottleneck(r=rank, act=act, init="normal", init_up="normal")
    return Spec(parts=(Patch(at=sites, layers=layers, delta=delta),), trainable=Trainable(norms=joined(norms)))


@method("pfeiffer", family="adapter", optim=OPTIM, order=23)
def pfeiffer(
    shape: Shape, *, rank: Rank = 48, act: Act = "relu", layers: Layers = "all", norms: Norms = "none"
) -> Spec:
    """``H + W_up · relu(W_down · Y)`` after every FFN, Y the block's own result, rank d/16.

    Pfeiffer et al. (2021) in the form of AdapterHub's ``seq_bn``: Y = LN(H + X) on BART, H + X on T5; BART's norm is
    applied to the sum again. Start as for ``adapter``.
    """
    delta = Bottleneck(r=rank, act=act, input="block", init="normal", init_up="normal")
    patch = Patch(at=FEED_FORWARD, layers=layers, delta=delta)
    return Spec(parts=(patch,), trainable=Trainable(norms=joined(norms)))


@method("parallel", family="adapter", optim=OPTIM, order=24)
def parallel(
    shape: Shape,
    *,
    rank: Rank = 384,
    act: Act = "relu",
    delta_scale: float = 4.0,
    layers: Layers = "all",
    norms: Norms = "none",
) -> Spec:
    """``H + 4 · W_up · relu(W_down · X)`` beside every FFN, rank d/2.

    He et al. (2022) in the form of AdapterHub's ``par_bn``; on T5 X is what the FFN itself reads, after the norm. The
    down-projection starts Kaiming-uniform, the up-projection at zero.
    """
    delta = Bottleneck(r=rank, act=act, input="x_norm", scale=delta_scale, init="kaiming", init_up="zeros")
    patch = Patch(at=FEED_FORWARD, layers=layers, delta=delta)
    return Spec(parts=(patch,), trainable=Trainable(norms=joined(norms)))


# Not in the paper: the T5 values of VL-PET's release with this adapter's rank.
four_sizes(
    "adapter",
    about="Houlsby's encoder adapters under VL-PET's gates, its decoder replaced by a value-parallel one of its kind.",
    defaults={"rank": 48, "decoder_rank": 48, "act": "silu", "init": "normal"} | ONE_HEAD,
    t5=T5 | {"rank": 48},
    order=114,
    listed=False,
)(vl_pet)
