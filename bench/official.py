"""Reading state dicts of the official code (VL-PET, VL-Adapter, LST) into this suite's models.

The model is built and the method attached as for any run, with the method's sizes read off the tensors; then every
tensor of the model is looked up under the name it has in the official code. What that code repeats (tied embeddings,
one module registered once per task) must be equal, what it splits (heads) is put together.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import methods
from bench import backbones
from bench.errors import UsageError
from methods.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.backbones import VLModel

TASKS = ("vqa", "gqa", "nlvr", "caption")
SIZES = ("vl-pet-small", "vl-pet-middleX", "vl-pet-middleY", "vl-pet-large")
READABLE = (
    *("full", "projector-only", "bitfit", "compacter", "lora", "vl-adapter", *SIZES),
    *(f"{base}+{size}" for base in ("vl-adapter", "compacter") for size in SIZES),
)
LORA_ALPHA = 32.0  # the scripts' and the code's default; a state dict does not hold it

GATES = {"small": "small_xy_cat", "middleX": "middle_xy_add", "middleY": "middle_ia3_add", "large": "large_x"}
PHM = {"rule": "phm_rule", "slices": "W", "bias": "b"}
BART_LINEARS = {"q": "q_proj", "v": "v_proj"}
ATTENTION = {
    "bart": {"sa": "self_attn", "xa": "encoder_attn"},
    "t5": {"sa": "SelfAttention", "xa": "EncDecAttention"},
}
FEED_FORWARD = {"up": "wi", "out": "wo"}
OUTSIDE_LAYERS = {
    "enc_0_end_ln": "encoder.final_layer_norm",
    "dec_0_end_ln": "decoder.final_layer_norm",
    "vis_0_ln": "encoder.visual_embedding.feat_embedding.1",
    "vis_1_ln": "encoder.visual_embedding.absolute_vis_pos_embedding.1",
    "lm_0_head": "lm_head",
}

Source = tuple[tuple[str, ...], ...]
"""Where one tensor comes from: pieces put together along the first axis, each under names of equal tensors."""


def load(
    state_dict: Mapping[str, Any], *, backbone: Any, method: str, feat_dim: int, tasks: tuple[str, ...] = TASKS
) -> "VLModel":
    """Build the model that an official state dict belongs to, in eval mode, with ``requires_grad`` as officially.

    Args:
        state_dict: arrays or tensors under their official names.
        backbone: a backbone's name or an HF configuration; the vocabulary is that of the state dict.
        method: a registered method with an official counterpart (``READABLE``).
        feat_dim: columns of the visual features.
        tasks: the tasks under whose names shared modules are repeated.

    Raises:
        UsageError: the method has no counterpart, or tensors are missing, left over, of another shape, or differ where
            they must be equal; the message names them.
    """
    import torch

    name = _readable(method)
    tensors = {key: v.detach() if torch.is_tensor(v) else torch.tensor(v) for key, v in state_dict.items()}
    config = _config(backbone, tensors, feat_dim)
    model = backbones.build(config, feat_dim=feat_dim)
    heads = Heads.read(tensors)
    options = methods.get(name).entry.types
    try:
        chosen = methods.get(name, **{key: v for key, v in _sizes(tensors, heads).items() if key in options})
        methods.attach(model, chosen, tasks=tasks)
    except MethodError as error:
        raise UsageError(f"the sizes in the official state dict do not go together: {error}") from error
    gate = chosen.options(methods.Shape.of(config)).get("gate", "none")
    phm = any(key.endswith(".rule") for key in model.state_dict())
    _fill(model, tensors, Names(model.family, tasks, heads, GATES.get(gate, ""), phm), name)
    return model.eval()


def _readable(method: str) -> str:
    try:
        name = methods.get(method).name
    except MethodError:
        name = method
    if name not in READABLE:
        raise UsageError(f"no official state dict of {method!r} can be read; those of {', '.join(READABLE)} can")
    return name


def _config(backbone: Any, tensors: Mapping[str, "Tensor"], feat_dim: int) -> Any:
    """The backbone's configuration with the vocabulary of the state dict, which holds the added tokens."""
    if isinstance(backbone, str):
        backbone = backbones.build(backbone, feat_dim=feat_dim, device="meta").lm.config
    config = deepcopy(backbone)
    words = "model.shared.weight" if backbones.family_of(config).name == "bart" else "shared.weight"
    if words not in tensors:
        raise UsageError(f"no official state dict of a {config.model_type} model: it has no {words}")
    config.vocab_size = len(tensors[words])
    return config


@dataclass(frozen=True)
class Heads:
    """Into how many heads the two projections of VL-PET's encoder modules are split; 0: one Linear."""

    down: int
    up: int

    @classmethod
    def read(cls, names: Iterable[str]) -> "Heads | None":
        """Read the numbers off the names; None where there are no such modules."""
        found: dict[str, int] = {}
        for name in names:
            if match := re.search(r"_adapter_multihead_(down|up)\.(?:(\d+)\.)?", name):
                side, index = match.groups()
                found[side] = max(found.get(side, 0), 0 if index is None else int(index) + 1)
        return cls(found.get("down", 0), found.get("up", 0)) if found else None

    def arrange(self, paired: bool) -> str:
        """Return VL-PET's name of the arrangement; ``paired``: a head of the second reads one of the first alone."""
        if self.down and self.up:
            return "pair" if paired else "down_up"
        return "down" if self.down else "up" if self.up else "plain"


def _sizes(tensors: Mapping[str, "Tensor"], heads: Heads | None) -> dict[str, Any]:
    """The options of methods that tensors decide; what cannot be read keeps its default, and is found missing then."""

    def size(pattern: str, axis: int = 0) -> int:
        return next((tensor.shape[axis] for name, tensor in tensors.items() if re.search(pattern, name)), 0)

    sampler = r"_adapter\.adapters\.[^.]+\.down_sampler\."
    sizes = {
        "rank": size(rf"(attn|ff){sampler}(weight|b)$") or size(r"\.lora_As\."),
        "decoder_rank": size(rf"value_parallel{sampler}(weight|b)$"),
        "gate_rank": size(r"gating_large_x_down\.weight$"),
        "phm": size(rf"{sampler}phm_rule$"),
        "heads": 1,
    }
    arrange = "plain"
    if heads is not None:
        each = size(r"_multihead_down\.(0\.)?weight$")
        sizes |= {"rank": each * max(heads.down, 1), "heads": max(heads.down, heads.up, 1)}
        arrange = heads.arrange(paired=size(r"_multihead_up\.0\.weight$", axis=1) == each)
    read: dict[str, Any] = {key: value for key, value in sizes.items() if value}
    if size(rf"value_parallel{sampler}weight$"):
        read["phm"] = 0  # asked for Compacter with value-parallel adapters, the released trainer builds dense ones
    biases = any(name.endswith("SelfAttention.q.bias") for name in tensors)
    return read | {"arrange": arrange, "alpha": LORA_ALPHA, "add_missing": biases}


@dataclass(frozen=True)
class Names:
    """Official names of the tensors of a model of this suite."""

    family: str
    tasks: tuple[str, ...]
    heads: Heads | None
    gate: str
    phm: bool

    def source(self, name: str) -> Source:
        """Where the tensor ``name`` of a :class:`~bench.backbones.VLModel` with a method comes from."""
        if name.startswith("lm."):
            return _one(name.removeprefix("lm."))
        if name.startswith("visual_embedding."):
            return _one(("model." if self.family == "bart" else "") + f"encoder.{name}")
        _, key, part, *rest = name.split(".")
        if key in OUTSIDE_LAYERS:
            return _one(f"{OUTSIDE_LAYERS[key]}.bias")
        stack, index, block, point = key.split("_")
        holder = self._holder(stack, index, block)
        kind = "ff" if block == "ff" else "attn"
        if part == "gate":
            return _one(f"{holder}.encoder_{kind}_adapter_gating_{self._gate(rest)}")
        if point != "out" or rest == ["vector"]:
            return self._at_linear(holder, block, point, rest)
        if stack == "enc" and self.heads is not None:
            count = self.heads.down if rest[0] == "down" else self.heads.up
            return _split(f"{holder}.{kind}_adapter_multihead", count, *rest)
        return self._shared(f"{holder}.{self._adapter(stack, block)}.adapters", rest)

    def _holder(self, stack: str, index: str, block: str) -> str:
        """The module around a block: all of a BART layer, one of the sub-layers of a T5 block."""
        if self.family == "bart":
            return f"model.{stack}oder.layers.{index}"
        blocks = ("sa", "ff") if stack == "enc" else ("sa", "xa", "ff")
        return f"{stack}oder.block.{index}.layer.{blocks.index(block)}"

    def _adapter(self, stack: str, block: str) -> str:
        own = "self_attn_adapter" if (self.family, stack) == ("bart", "dec") else "attn_adapter"
        return {"sa": own, "xa": "enc_attn_adapter", "ff": "ff_adapter"}[block]

    def _gate(self, rest: list[str]) -> str:
        _, *tail = rest  # body or z
        side = f"_{tail.pop(0)}" if len(tail) == 2 else ""
        return ".".join([self.gate + side, *tail])

    def _at_linear(self, holder: str, block: str, point: str, rest: list[str]) -> Source:
        """A bias of its own, LoRA's matrices, or the adapter beside the values."""
        if point == "ln":
            return _one(f"{holder}.layer_norm.bias")
        if block == "ff":
            return _one(f"{holder}.DenseReluDense.{FEED_FORWARD[point]}.bias")
        attention = f"{holder}.{ATTENTION[self.family][block]}"
        linear = f"{attention}.{BART_LINEARS[point] if self.family == 'bart' else point}"
        if rest == ["vector"]:
            return _one(f"{linear}.bias")
        if rest[0] in ("a", "b"):
            return (tuple(f"{linear}.lora_{rest[0].upper()}s.{task}" for task in self.tasks),)
        return self._shared(f"{attention}.attn_value_parallel_adapter.adapters", rest)

    def _shared(self, adapters: str, rest: list[str]) -> Source:
        side, leaf = rest
        leaf = PHM[leaf] if self.phm else leaf
        return (tuple(f"{adapters}.{task}.{side}_sampler.{leaf}" for task in self.tasks),)


def _one(name: str) -> Source:
    return ((name,),)


def _split(multihead: str, heads: int, side: str, leaf: str) -> Source:
    if not heads:
        return _one(f"{multihead}_{side}.{leaf}")
    return tuple((f"{multihead}_{side}.{head}.{leaf}",) for head in range(heads))


def _fill(model: "VLModel", tensors: Mapping[str, "Tensor"], names: Names, method: str) -> None:
    """Copy every tensor into the model; UsageError naming those that are amiss."""
    import torch

    buffers = {name for name, _ in model.named_buffers()}
    places: list[tuple[Tensor, tuple[str, ...]]] = []
    for name, tensor in model.state_dict().items():
        source = names.source(name)
        if name not in buffers or source[0][0] in tensors:
            places += zip(_slots(model, name, tensor, len(source)), source, strict=True)

    missing, shapes, unequal = [], [], []
    for slot, copies in reversed(places):  # backwards, so that of tied tensors the first, the embedding, has its way
        present = [name for name in copies if name in tensors]
        if present and tensors[present[0]].shape == slot.shape:
            slot.copy_(tensors[present[0]])
    for slot, copies in places:
        for name in copies:
            if name not in tensors:
                missing.append(name)
            elif tensors[name].shape != slot.shape:
                shapes.append(f"{name} {list(tensors[name].shape)} instead of {list(slot.shape)}")
            elif not torch.equal(tensors[name].to(slot), slot):
                unequal.append(name)
    used = {name for _, copies in places for name in copies}
    faults = [
        *_some("missing", missing),
        *_some("left over", [name for name in tensors if name not in used]),
        *_some("of another shape", shapes),
        *_some("unlike the tensor they are tied to or shared with", unequal),
    ]
    if faults:
        raise UsageError(f"the state dict is not that of an official {method} on {names.family}: {'; '.join(faults)}")


def _slots(model: "VLModel", name: str, tensor: "Tensor", pieces: int) -> "Iterable[Tensor]":
    """Views of the parts of a tensor that are tensors of their own in the official code."""
    from methods.blocks.bottleneck import Pairs

    if isinstance(model.get_submodule(name.rpartition(".")[0]), Pairs):
        return tensor
    return tensor.unflatten(0, (pieces, -1)) if pieces > 1 else [tensor]


def _some(what: str, names: list[str], most: int = 8) -> list[str]:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{len(names)} {what}: {', '.join(names[:most])}{more}"] if names else []
