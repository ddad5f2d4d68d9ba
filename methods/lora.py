"""LoRA (Hu et al., 2022) on the query and value projections of every attention, and with VL-PET's gates around it."""

from typing import Literal

from methods.core.options import At, Biases, Layers, Norms, joined
from methods.core.registry import Alpha, OptimizerSettings, Rank, method
from methods.core.shape import Shape
from methods.core.spec import LoRA, Patch, Spec, Trainable
from methods.vl_adapter import OPTIM, PER_TASK
from methods.vl_pet import T5, VALUE, GateName, around, four_sizes

Q_AND_V = tuple(f"{block}.{point}" for block in ("enc.sa", "dec.sa", "dec.xa") for point in ("q", "v"))


@method("lora", family="low rank", t5={"rank": 150, "biases": "none"}, optim=OPTIM, order=20)
@method(
    "lora-multiple",
    family="low rank",
    about="One pair of matrices per site and task.",
    defaults={"share": "none"},
    t5={"rank": 150, "biases": "none"},
    optim=PER_TASK | {"bart image-text": OptimizerSettings(1e-3, task_prefix=False)},
    order=46,
)
def lora(
    shape: Shape,
    *,
    rank: Rank = 128,
    alpha: Alpha = 32.0,
    dropout: float = 0.1,
    at: At = Q_AND_V,
    layers: Layers = "all",
    share: Literal["all", "none"] = "all",
    biases: Biases = "all",
    norms: Norms = "none",
) -> Spec:
    """``(alpha / rank) · B · A · dropout(x)`` beside every q and v; on BART every bias is trained as well.

    Rank 128 (5.93 % on BART-base) and learning rates from the VL-Adapter scripts; rank 150 (7.54 %) and no biases on T5
    from LST's code, where VL-PET's T5 baselines come from.
    """
    delta = LoRA(r=rank, alpha=alpha, dropout=dropout, share=share)
    return Spec(
        parts=(Patch(at=at, layers=layers, delta=delta),),
        trainable=Trainable(biases=joined(biases), norms=joined(norms)),
    )


@four_sizes("lora", t5=T5 | {"rank": 150}, order=118, listed=False)
def lora_vl_pet(
    shape: Shape,
    *,
    rank: Rank = 128,
    alpha: Alpha = 32.0,
    dropout: float = 0.1,
    gate: GateName = "large",
    gate_rank: Rank = 96,
    scale: float = 1.0,
    zero_init: bool = False,
    norms: Norms = "enc",
) -> Spec:
    """LoRA in VL-PET's frame: on q and v of the encoder, gated at the encoder's outputs, on the values that the
    decoder's cross-attention takes from the encoder; encoder norms trained, biases frozen.

    Not in the paper, whose enhanced variants are those of Compacter and VL-Adapter. H already contains the effect of
    LoRA, so the gated sites have no ΔH.
    """
    delta = LoRA(r=rank, alpha=alpha, dropout=dropout)
    patch = Patch(at=("enc.sa.q", "enc.sa.v", *VALUE), delta=delta)
    frame = {"gate": gate, "gate_rank": gate_rank, "scale": scale, "zero_init": zero_init, "norms": norms}
    return around(patch, shape, **frame)
