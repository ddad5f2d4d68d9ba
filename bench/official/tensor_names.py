"""The names that the official code gives to the tensors of a model of this suite.

A module that the official code registers several times (once per task, or task vectors in both stacks) has several
names for one tensor; a module that it splits into heads has a name for each head.
"""

from dataclasses import dataclass

from bench.official.option_inference import HeadCounts
from methods.core.sites import (
    ATTENTION_MODULES,
    FEED_FORWARD_MODULE,
    LINEAR_MODULES,
    T5_FEED_FORWARD_LINEARS,
    T5_NORM_MODULE,
    T5_STACK_NORM_MODULE,
)

#: the gate of VL-PET's encoder, by our name of it
GATES = {
    "small": "small_xy_cat",
    "middleX": "middle_xy_add",
    "middleY": "middle_ia3_add",
    "large": "large_x",
    "large-full": "large_x",
    "layernorm": "layernorm",
}
#: tensors of matrices that are not Linears (PHM's, and products of two factors), by our name
STRUCTURED = {"rule": "phm_rule", "slices": "W", "left": "W_left", "right": "W_right", "bias": "b"}
NORMS = {"before": "pre_layer_norm", "after": "post_layer_norm"}
OUTSIDE_LAYERS = {
    "enc_0_end_ln": f"encoder.{T5_STACK_NORM_MODULE}",
    "dec_0_end_ln": f"decoder.{T5_STACK_NORM_MODULE}",
    "vis_0_ln": "encoder.visual_embedding.feat_embedding.1",
    "vis_1_ln": "encoder.visual_embedding.absolute_vis_pos_embedding.1",
    "lm_0_head": "lm_head",
}
PROMPT = {"embedding": "0.weight", "down": "1", "up": "3"}
HYPER = {
    "layers": "layer_id_embeddings.weight",
    "down": "task_hypernet.task_embeding_generator.0",
    "up": "task_hypernet.task_embeding_generator.2",
    "norm": "LayerNorm",
}
HYPER_BLOCKS = {"sa": "self_attention", "xa": "cross_attention", "ff": "feed_forward"}
SIDE = {"first": "side_first_downsample", "norm": "final_side_layer_norm"}
RUNG = {"gate": "side_gate_params", "down": "side_downsamples", "block": "side_block"}
LOW_RANK = {  # the low-rank visual projector
    "feat_embedding.0.body": "visual_projector_multihead",
    "feat_embedding.0.gate": "visual_projector_gating_large_x",
    "feat_embedding.1": "visual_projector_layer_norm",
}

Pieces = tuple[tuple[str, ...], ...]
"""One tensor of ours in an official state dict: pieces to be concatenated along the first axis, each given by all the
names under which the official code stores it."""


@dataclass(frozen=True)
class OfficialNames:
    """The official names of the tensors of a model with one method.

    Attributes:
        family: the backbone family, "bart" or "t5".
        tasks: the tasks under whose names modules are registered.
        heads: heads of VL-PET's encoder modules; None where there are no such modules.
        projector: heads of the low-rank visual projector; None for the full one.
        gate: our name of VL-PET's gate.
        decoder: our name of VL-PET's placement in the decoder.
        structured: whether the matrices of adapters are PHM's or products of factors, not Linears.
        shared_rule: whether all PHM matrices share one rule, which then has a name at the top as well.
    """

    family: str
    tasks: tuple[str, ...]
    heads: HeadCounts | None = None
    projector: HeadCounts | None = None
    gate: str = "none"
    decoder: str = "none"
    structured: bool = False
    shared_rule: bool = False

    @property
    def root(self) -> str:
        """The prefix of all names but that of the output layer."""
        return "model." if self.family == "bart" else ""

    def pieces_of(self, name: str) -> Pieces:
        """Return the official names of the tensor ``name`` of a :class:`~bench.backbones.VLModel` with the method."""
        top, _, inner = name.partition(".")
        if top == "lm":
            return _one(inner)
        if top == "visual_embedding":
            return self._visual(inner)
        key, *rest = inner.split(".")
        tasks = tuple(word for word in rest if word in self.tasks) or self.tasks
        rest = [word for word in rest if word not in self.tasks]
        if key == "input":
            return self._prompt(tasks, rest[1:]) if rest[0] == "prompt" else _one(self._side(*rest))
        if key == "tasks":
            holders = ("shared_task_embed", "encoder.task_embed", "decoder.task_embed")
            return (tuple(f"{self.root}{holder}.task_to_embeddings.{tasks[0]}" for holder in holders),)
        if key.endswith("_generator"):
            return _one(f"{self.root}{key[:3]}oder.adapter_layers_hyper_net.{_generated(rest)}")
        if key in OUTSIDE_LAYERS:
            return _one(f"{OUTSIDE_LAYERS[key]}.bias")
        return self._at_site(key, tasks, rest)

    def _visual(self, inner: str) -> Pieces:
        visual = f"{self.root}encoder.visual_embedding."
        if self.projector is None:
            return _one(f"{visual}{inner}")
        for ours, official in LOW_RANK.items():
            if inner.startswith(f"{ours}."):
                *side, leaf = inner.removeprefix(f"{ours}.").split(".")
                if side == ["down"] and ours.endswith("body"):
                    return _split(f"{visual}{official}", self.projector.down, "down", leaf)
                return _one(f"{visual}{'_'.join([official, *side])}.{leaf}")
        return _one(f"{visual}{inner}")

    def _prompt(self, tasks: tuple[str, ...], rest: list[str]) -> Pieces:
        leaf = ".".join([PROMPT[rest[0]], *rest[1:]])
        prompts = f"{self.root}encoder.prompt_modules.prompts"
        return (tuple(f"{prompts}.{task}.prefix_embedding.{leaf}" for task in tasks),)

    def _side(self, stack: str, part: str, *rest: str) -> str:
        """Return the name of a tensor of LST's side network at a stack, or of its projection to the output layer."""
        if stack == "up":
            return f"side_final_upsample.{part}"
        if part == "rungs":
            index, what, *inner = rest
            return ".".join([f"{self.root}{stack}.{RUNG[what]}.{index}", *inner])
        return ".".join([f"{self.root}{stack}.{SIDE[part]}", *rest])

    def _at_site(self, key: str, tasks: tuple[str, ...], rest: list[str]) -> Pieces:
        stack, index, block, point = key.split("_")
        holder = self._holder(stack, index, block)
        attention = f"{holder}.{ATTENTION_MODULES[self.family].get(block)}"
        kind = "ff" if block == "ff" else "attn"
        part, *leaf = rest
        if part == "gate":
            return _one(self._gate(stack, holder, attention, f"{block}_{point}", kind, leaf))
        if point == "ln":
            return _one(f"{holder}.{T5_NORM_MODULE}.bias")
        if leaf == ["vector"]:
            return _one(f"{self._linear(holder, attention, block, point)}.bias")
        if leaf[0] in ("a", "b"):
            linear = self._linear(holder, attention, block, point)
            return (tuple(f"{linear}.lora_{leaf[0].upper()}s.{task}" for task in tasks),)
        if stack == "enc" and self.heads is not None:
            count = self.heads.down if leaf[0] == "down" else self.heads.up
            return _split(f"{holder}.{kind}_adapter_multihead", count, *leaf)
        return self._adapter(self._controller(stack, holder, attention, block, point), tasks, leaf)

    def _holder(self, stack: str, index: str, block: str) -> str:
        """Return the path of the module that contains a block: a BART layer, or a sub-layer of a T5 block."""
        if self.family == "bart":
            return f"model.{stack}oder.layers.{index}"
        blocks = ("sa", "ff") if stack == "enc" else ("sa", "xa", "ff")
        return f"{stack}oder.block.{index}.layer.{blocks.index(block)}"

    def _linear(self, holder: str, attention: str, block: str, point: str) -> str:
        if block == "ff":
            return f"{holder}.{FEED_FORWARD_MODULE}.{T5_FEED_FORWARD_LINEARS[point]}"
        return f"{attention}.{LINEAR_MODULES[self.family][point]}"

    def _gate(self, stack: str, holder: str, attention: str, at: str, kind: str, leaf: list[str]) -> str:
        if stack == "dec":
            vectors = {"xa_v": f"{attention}.attn_value_ia3", "ff_mid": f"{holder}.decoder_ff_ia3"}
            return vectors.get(at) or f"{holder}.decoder_enc_attn_adapter_gating_large_x_{leaf[1]}.{leaf[2]}"
        _, *tail = leaf  # body or z
        side = f"_{tail.pop(0)}" if len(tail) == 2 else ""
        return ".".join([f"{holder}.encoder_{kind}_adapter_gating_{GATES[self.gate]}{side}", *tail])

    def _controller(self, stack: str, holder: str, attention: str, block: str, point: str) -> str:
        """Return the path of the module that contains the adapters of a site, one per task."""
        if point == "v":
            form = "enc_attn_value_sequential" if self.decoder == "value-sequential" else "attn_value_parallel"
            return f"{attention}.{form}_adapter"
        if point == "kv":
            return f"{holder}.decoder_enc_attn_key_value_adapter"
        if stack == "dec" and self.decoder != "none":
            adapters = {"sa": "decoder_self_attn_adapter", "xa": "decoder_enc_attn_adapter", "ff": "decoder_ff_adapter"}
        elif (self.family, stack) == ("bart", "dec"):
            adapters = {"sa": "self_attn_adapter", "xa": "enc_attn_adapter", "ff": "ff_adapter"}
        else:
            adapters = {"sa": "attn_adapter", "xa": "enc_attn_adapter", "ff": "ff_adapter"}
        return f"{holder}.{adapters[block]}"

    def _adapter(self, controller: str, tasks: tuple[str, ...], leaf: list[str]) -> Pieces:
        side, tensor = leaf
        if side in NORMS:
            return _one(f"{controller}.{NORMS[side]}.{tensor}")
        name = STRUCTURED[tensor] if self.structured else tensor
        copies = tuple(f"{controller}.adapters.{task}.{side}_sampler.{name}" for task in tasks)
        return ((*copies, "phm_rule") if self.shared_rule and tensor == "rule" else copies,)


def _generated(rest: list[str]) -> str:
    """Return the name of a tensor of Hyperformer's network that generates adapters."""
    if rest[0] != "blocks":
        return ".".join([HYPER[rest[0]], *rest[1:]])
    _, block, what, leaf = rest
    side, kind = what.split("_")
    return f"{HYPER_BLOCKS[block]}_{side}_sampler_hyper_net.{kind}_generator.0.{leaf}"


def _one(name: str) -> Pieces:
    return ((name,),)


def _split(multihead: str, heads: int, side: str, leaf: str) -> Pieces:
    if not heads:
        return _one(f"{multihead}_{side}.{leaf}")
    return tuple((f"{multihead}_{side}.{head}.{leaf}",) for head in range(heads))
