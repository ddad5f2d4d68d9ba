"""LoRA (Hu et al., 2022) on the query and value projections of every attention, and with VL-PET's gates around it."""

from methods.registry import Alpha, Optim, Rank, method
from methods.shape import Shape
from methods.spec import LoRA, Patch, Spec, Trainable
from methods.vl_pet import ENCODER, OPTIM, STACKS, T5, VALUE, GateName, Norms, gate_called

Q_AND_V = tuple(f"{block}.{point}" for block in ("enc.sa", "dec.sa", "dec.xa") for point in ("q", "v"))


@method(
    "lora",
    t5={"rank": 150, "biases": False},
    optim={"bart image-text": Optim(1e-3), "bart video-text": Optim(3e-4), "t5": Optim(3e-4)},
    order=20,
)
def lora(
    shape: Shape,
    *,
    rank: Rank = 128,
    alpha: Alpha = 32.0,
    dropout: float = 0.1,
    biases: bool = True,
    norms: Norms = "none",
) -> Spec:
    """``(alpha / rank) · B · A · dropout(x)`` beside every q and v; on BART every bias is trained as well.

    Rank 128 (5.93 % on BART-base) and learning rates from the VL-Adapter scripts; rank 150 (7.54 %) and no biases on T5
    from LST's code, where VL-PET's T5 baselines come from.
    """
    delta = LoRA(r=rank, alpha=alpha, dropout=dropout)
    return Spec(
        parts=(Patch(at=Q_AND_V, delta=delta),),
        trainable=Trainable(biases=biases, norms=STACKS[norms]),
    )


@method("lora+vl-pet-large", t5=T5 | {"rank": 150}, optim=OPTIM, order=115)
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

    Not in the paper, whose enhanced variants are of Compacter and VL-Adapter. H already holds what LoRA did, so the
    gated sites have no ΔH of their own.
    """
    delta = LoRA(r=rank, alpha=alpha, dropout=dropout)
    parts = [Patch(at=("enc.sa.q", "enc.sa.v", *VALUE), delta=delta)]
    if gate != "none" or scale != 1.0:
        parts.append(Patch(at=ENCODER, gate=gate_called(gate, gate_rank, zero_init), scale=scale))
    return Spec(parts=tuple(parts), trainable=Trainable(norms=STACKS[norms]))
