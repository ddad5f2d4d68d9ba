"""Reading the options of a method off the names and shapes of an official state dict."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from methods.core.sites import ATTENTION_MODULES, LINEAR_MODULES

if TYPE_CHECKING:
    from torch import Tensor

LORA_ALPHA = 32.0  # the default of the official code and scripts; a state dict does not contain it

DOWN = r"\.adapters\.[^.]+\.down_sampler\."
HYPER = r"\.adapter_layers_hyper_net\."
ADAPTER, PROJECTOR = "_adapter", "visual_projector"  # how the names of modules with heads begin
#: option -> patterns of tensor names and the axis whose size is the option; the first pattern that matches counts
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
#: part of a tensor name that occurs in one of VL-PET's decoder ablations only -> its options
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
class HeadCounts:
    """Into how many heads the two projections of a bottleneck are split; 0 is a single Linear without heads."""

    down: int
    up: int

    @classmethod
    def from_names(cls, names: Iterable[str], prefix: str) -> "HeadCounts | None":
        """Count the heads of the modules called ``PREFIX_multihead_down`` and ``_up``; None where there are none."""
        counts: dict[str, int] = {}
        for name in names:
            if match := re.search(rf"{prefix}_multihead_(down|up)\.(?:(\d+)\.)?", name):
                side, head = match.groups()
                counts[side] = max(counts.get(side, 0), 0 if head is None else int(head) + 1)
        return cls(counts.get("down", 0), counts.get("up", 0)) if counts else None

    def arrangement(self, paired: bool) -> str:
        """Return the value of VL-PET's option ``arrange``.

        With ``paired`` every head of the up-projection reads one head of the down-projection only.
        """
        if self.down and self.up:
            return "pair" if paired else "down_up"
        return "down" if self.down else "up" if self.up else "plain"


def infer_options(tensors: Mapping[str, "Tensor"], tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return all options that the tensors decide, whichever method they belong to.

    An option that cannot be read is left out; if the tensors are at fault, filling the model reports it.

    Args:
        tensors: the state dict.
        tasks: the tasks under whose names modules are registered.
    """

    def size(pattern: str, axis: int = 0) -> int:
        """The size that most tensors of this name have, 0 where there are none: a single odd one does not decide."""
        counts = Counter(tensor.shape[axis] for name, tensor in tensors.items() if re.search(pattern, name))
        return counts.most_common(1)[0][0] if counts else 0

    def occurs(part: str) -> bool:
        return any(part in name for name in tensors)

    controllers = {name.partition(".adapters.")[0] for name in tensors if ".adapters." in name}

    sizes = {option: next(filter(None, (size(*at) for at in patterns)), 0) for option, patterns in SIZES.items()}
    factor_option = "phm_rank" if sizes["phm"] else "factor"
    sizes[factor_option] = size(rf"{DOWN}W_left$", -1)
    if side_width := size(r"encoder\.side_first_downsample\.weight$"):
        sizes["reduction"] = size(r"encoder\.side_first_downsample\.weight$", 1) // side_width
    heads = HeadCounts.from_names(tensors, ADAPTER)
    arrangement, sizes["heads"] = "plain", 1
    if heads is not None:
        head_width = size(r"_multihead_down\.(0\.)?weight$")
        sizes |= {"rank": head_width * max(heads.down, 1), "heads": max(heads.down, heads.up, 1)}
        arrangement = heads.arrangement(paired=size(r"_multihead_up\.0\.weight$", axis=1) == head_width)
    options: dict[str, Any] = {option: value for option, value in sizes.items() if value}
    if size(rf"_value_parallel_adapter{DOWN}weight$"):
        # The released trainer builds dense value-parallel adapters even where Compacter is requested.
        options["phm"] = 0
    if sizes["projector_rank"]:
        gated = occurs(".visual_projector_gating_")
        options |= {"projector": "lowrank", "projector_gate": "mul" if gated else "none"}
    t5_query = f"{ATTENTION_MODULES['t5']['sa']}.{LINEAR_MODULES['t5']['q']}"
    return options | {
        "share": _infer_sharing(tensors, tasks),
        "arrange": arrangement,
        "alpha": LORA_ALPHA,
        "add_missing": occurs(f"{t5_query}.bias"),
        "phm_shared": "phm_rule" in tensors,
        "ln_before": bool(controllers) and all(f"{name}.pre_layer_norm.weight" in tensors for name in controllers),
        "ln_after": bool(controllers) and all(f"{name}.post_layer_norm.weight" in tensors for name in controllers),
        **next((placement for part, placement in DECODERS if occurs(part)), {}),
    }


def _infer_sharing(tensors: Mapping[str, "Tensor"], tasks: tuple[str, ...]) -> str:
    """Return the value of the option ``share``: which projections all tasks have in common.

    The official code registers a shared module under the name of every task. So a projection belongs to one task
    where its tensors differ between tasks at every site. If they differ at some sites only, the state dict is at
    fault, and filling the model says where.
    """
    import torch

    matrix = r"\.(down|up)_sampler\.(?:weight|W|W_left)|\.prefix_embedding\.1\.weight|"
    per_task = re.compile(rf"(.*\.(?:adapters|prompts|lora_As))\.(?:{'|'.join(map(re.escape, tasks))})({matrix})")
    copies: dict[tuple[str, str, str], list[Tensor]] = defaultdict(list)
    for name, tensor in tensors.items():
        if match := per_task.fullmatch(name):
            site, leaf, side = match.groups()
            copies[side or "all", site, leaf].append(tensor)
    separate: dict[str, bool] = {}  # side of the bottleneck -> whether tasks differ at every site
    for (side, *_), tensors_of_tasks in copies.items():
        differ = any(not torch.equal(tensor, tensors_of_tasks[0]) for tensor in tensors_of_tasks[1:])
        separate[side] = separate.get(side, True) and differ
    if separate.get("all") or (separate.get("down") and separate.get("up")):
        return "none"
    return "up" if separate.get("down") else "down" if separate.get("up") else "all"


def infer_feat_dim(tensors: Mapping[str, "Tensor"]) -> int:
    """Return the number of feature columns that the visual projector of a state dict takes.

    Raises:
        UsageError: there is no visual projector.
    """
    for name, tensor in tensors.items():
        if re.search(r"\.visual_embedding\.(feat_embedding\.0|visual_projector_multihead_down(\.0)?)\.weight$", name):
            return tensor.shape[1]
    raise UsageError("no official state dict of a vision-language model: it has no encoder.visual_embedding")
