"""What the tensors of an official state dict tell of its method's options."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from methods.core.sites import ATTENTION_MODULES, LINEAR_MODULES

if TYPE_CHECKING:
    from torch import Tensor

LORA_ALPHA = 32.0  # the scripts' and the code's default; a state dict does not hold it

DOWN = r"\.adapters\.[^.]+\.down_sampler\."
HYPER = r"\.adapter_layers_hyper_net\."
MODULES, PROJECTOR = "_adapter", "visual_projector"  # what may have heads
#: option -> where it is a size: patterns of names and an axis; the first pattern that is found counts
SIZES: dict[str, tuple[tuple[str, int], ...]] = {
    "rank": (
        (rf"\.(attn|ff)_adapter{DOWN}(weight|b)$", 0),
        (r"\.lora_As\.", 0),
        (rf"{HYPER}self_attention_down_sampler_hyper_net\.bias_generator\.0\.bias$", 0),
    ),
    "decoder_rank": ((rf"(_parallel|_sequential|\.decoder_\w+)_adapter{DOWN}(weight|b)$", 0),),
    "gate_rank": ((r"\.encoder_\w+_gating_large_x_down\.weight$", 0),),
    "phm": ((rf"{DOWN}phm_rule$", 0),),
    "length": ((r"\.prefix_embedding\.0\.weight$", 0),),
    "mid": ((r"\.prefix_embedding\.1\.weight$", 0),),
    "task_dim": ((r"\.task_to_embeddings\.", 0),),
    "hidden": ((rf"{HYPER}task_hypernet\.\w+\.0\.weight$", 0),),
    "e": ((rf"{HYPER}task_hypernet\.\w+\.2\.weight$", 0),),
    "projector_rank": ((r"\.visual_projector_multihead_up\.weight$", 1),),
}
#: the placements of VL-PET's ablations, by a part of a name that only they have
DECODERS: tuple[tuple[str, dict[str, str]], ...] = (
    (".enc_attn_value_sequential_adapter.", {"decoder": "value-sequential", "quirk": "value-skips-projection"}),
    (".decoder_enc_attn_key_value_adapter.", {"decoder": "key-value"}),
    (".decoder_enc_attn_adapter_gating_", {"decoder": "attention-gated"}),
    (".decoder_enc_attn_adapter.", {"decoder": "attention"}),
    (".decoder_self_attn_adapter.", {"decoder": "self-attention"}),
    (".decoder_ff_adapter.", {"decoder": "ff"}),
    (".attn_value_ia3", {"decoder": "value-ia3"}),
    (".decoder_ff_ia3", {"decoder": "ff-ia3"}),
)


@dataclass(frozen=True)
class Heads:
    """Into how many heads the two projections of a bottleneck are split; 0: one Linear."""

    down: int
    up: int

    @classmethod
    def read(cls, names: Iterable[str], what: str) -> "Heads | None":
        """Read the numbers off the names; None where there are no such modules."""
        found: dict[str, int] = {}
        for name in names:
            if match := re.search(rf"{what}_multihead_(down|up)\.(?:(\d+)\.)?", name):
                side, index = match.groups()
                found[side] = max(found.get(side, 0), 0 if index is None else int(index) + 1)
        return cls(found.get("down", 0), found.get("up", 0)) if found else None

    def arrange(self, paired: bool) -> str:
        """Return VL-PET's name of the arrangement; ``paired``: a head of the second reads one of the first alone."""
        if self.down and self.up:
            return "pair" if paired else "down_up"
        return "down" if self.down else "up" if self.up else "plain"


def read(tensors: Mapping[str, "Tensor"], tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that tensors decide, of whatever method; what cannot be read keeps its default, and is found
    missing then."""

    def size(pattern: str, axis: int = 0) -> int:
        """What most tensors of this name have; one that is amiss does not decide."""
        found = Counter(tensor.shape[axis] for name, tensor in tensors.items() if re.search(pattern, name))
        return found.most_common(1)[0][0] if found else 0

    def has(part: str) -> bool:
        return any(part in name for name in tensors)

    adapters = {name.partition(".adapters.")[0] for name in tensors if ".adapters." in name}

    sizes = {option: next(filter(None, (size(*at) for at in places)), 0) for option, places in SIZES.items()}
    factors = "phm_rank" if sizes["phm"] else "factor"
    sizes[factors] = size(rf"{DOWN}W_left$", -1)
    if side := size(r"encoder\.side_first_downsample\.weight$"):
        sizes["reduction"] = size(r"encoder\.side_first_downsample\.weight$", 1) // side
    heads = Heads.read(tensors, MODULES)
    arrange, sizes["heads"] = "plain", 1
    if heads is not None:
        each = size(r"_multihead_down\.(0\.)?weight$")
        sizes |= {"rank": each * max(heads.down, 1), "heads": max(heads.down, heads.up, 1)}
        arrange = heads.arrange(paired=size(r"_multihead_up\.0\.weight$", axis=1) == each)
    found: dict[str, Any] = {option: value for option, value in sizes.items() if value}
    if size(rf"_value_parallel_adapter{DOWN}weight$"):
        found["phm"] = 0  # asked for Compacter with value-parallel adapters, the released trainer builds dense ones
    if sizes["projector_rank"]:
        gated = has(".visual_projector_gating_")
        found |= {"projector": "lowrank", "projector_gate": "mul" if gated else "none"}
    return found | {
        "share": _share(tensors, tasks),
        "arrange": arrange,
        "alpha": LORA_ALPHA,
        "add_missing": has(f"{ATTENTION_MODULES['t5']['sa']}.{LINEAR_MODULES['t5']['q']}.bias"),
        "phm_shared": "phm_rule" in tensors,
        "ln_before": bool(adapters) and all(f"{name}.pre_layer_norm.weight" in tensors for name in adapters),
        "ln_after": bool(adapters) and all(f"{name}.post_layer_norm.weight" in tensors for name in adapters),
        **next((options for part, options in DECODERS if has(part)), {}),
    }


def _share(tensors: Mapping[str, "Tensor"], tasks: tuple[str, ...]) -> str:
    """What tasks have in common: the official code repeats what they share under every task's name.

    Something is one task's own where it differs from the others' at every site; where it does so at some sites only,
    the state dict is at fault, and filling says where.
    """
    import torch

    matrix = r"\.(down|up)_sampler\.(?:weight|W|W_left)|\.prefix_embedding\.1\.weight|"
    copied = re.compile(rf"(.*\.(?:adapters|prompts|lora_As))\.(?:{'|'.join(map(re.escape, tasks))})({matrix})")
    copies: dict[tuple[str, str, str], list[Tensor]] = defaultdict(list)
    for name, tensor in tensors.items():
        if match := copied.fullmatch(name):
            site, what, side = match.groups()
            copies[side or "all", site, what].append(tensor)
    own: dict[str, bool] = {}
    for (side, *_), same in copies.items():
        differ = any(not torch.equal(tensor, same[0]) for tensor in same[1:])
        own[side] = own.get(side, True) and differ
    if own.get("all") or (own.get("down") and own.get("up")):
        return "none"
    return "up" if own.get("down") else "down" if own.get("up") else "all"


def feat_dim(tensors: Mapping[str, "Tensor"]) -> int:
    """Return the number of feature columns that the visual projector takes; UsageError where there is none."""
    for name, tensor in tensors.items():
        if re.search(r"\.visual_embedding\.(feat_embedding\.0|visual_projector_multihead_down(\.0)?)\.weight$", name):
            return tensor.shape[1]
    raise UsageError("no official state dict of a vision-language model: it has no encoder.visual_embedding")
