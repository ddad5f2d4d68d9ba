"""Where a named site is in an HF BART or T5, and what X and H are there.

This is the only file of ``methods`` that knows the names of HF's modules; what another file needs of them is exported
here. X is the input of the block. In BART (post-LN) that is the residual stream. In T5 (pre-LN) there are two
candidates; as in the VL-PET official code it is the residual stream *before* the norm, whose magnitude can be tens.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from methods.core.errors import MethodError
from methods.core.shape import LAYER_SITES, Shape

ATTENTION_MODULES = {
    "bart": {"sa": "self_attn", "xa": "encoder_attn"},
    "t5": {"sa": "SelfAttention", "xa": "EncDecAttention"},
}
"""HF's name of the self- (``sa``) and cross-attention (``xa``) inside a layer, by backbone family."""
LINEAR_MODULES = {
    "bart": {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"},
    "t5": {"q": "q", "k": "k", "v": "v", "o": "o"},
}
"""HF's name of the Linears of an attention, by backbone family and point of a site."""
NORM_MODULES = {"sa": "self_attn_layer_norm", "xa": "encoder_attn_layer_norm", "ff": "final_layer_norm"}
"""HF's name of the norm that ends a block of BART."""
FEED_FORWARD_MODULE = "DenseReluDense"
"""HF's name of the FFN inside a sub-layer of T5; BART has its two Linears in the layer itself."""


@dataclass(frozen=True, eq=False)
class Port:
    """One site of one layer, as modules of the model.

    Attributes:
        site: name of the site.
        index: number of the layer, or of the module where the site is outside of the layers.
        module: its output, or the first item of that, is H.
        x: the module whose first argument is X.
        layer: the transformer layer around it; None outside of the layers.
        ahead: H is an argument of ``module`` instead of its output.
        keyword: the name of this argument; None for the first.
        normed: the module whose first argument is X after the norm at the block's entrance.
        norm: the norm that ends the block (BART); None where none does.
    """

    site: str
    index: int
    module: nn.Module
    x: nn.Module
    layer: nn.Module | None = None
    ahead: bool = False
    keyword: str | None = None
    normed: nn.Module | None = None
    norm: nn.Module | None = None

    @property
    def first_block(self) -> Any:
        """The first block of the layer. Its first argument is the layer's own, its ``attention_mask`` says which
        positions are padding. Gradient checkpointing runs its hooks again, but not always those of the layer itself."""
        layer: Any = self.layer
        name = ATTENTION_MODULES["bart"]["sa"]
        return getattr(layer, name) if hasattr(layer, name) else layer.layer[0]

    @property
    def key(self) -> str:
        """The port's name without dots, with the layer's number behind the stack: ``enc_3_sa_out``."""
        stack, *rest = self.site.split(".")
        return "_".join([stack, str(self.index), *rest])


class Sites:
    """The sites of a language model and of the visual projector beside it, if there is one.

    Raises MethodError where ``lm`` is not an HF BART or T5.
    """

    def __init__(self, lm: Any, visual: nn.Module | None = None) -> None:
        if not hasattr(lm, "config") or not hasattr(lm, "get_encoder"):
            raise MethodError(f"methods attach to an HF BART or T5, or to a wrapper with one as .lm; not to {type(lm)}")
        self.lm = lm
        self.visual = visual
        columns = None if visual is None else feature_linear(visual)[1].in_features
        self.shape = replace(Shape.of(lm.config), columns=columns)
        self._stacks: dict[str, Any] = {"enc": lm.get_encoder(), "dec": lm.get_decoder()}

    def ports(self, site: str, layers: str | tuple[int, ...] = "all") -> list[Port]:
        """Return the ports of ``site``, layer by layer.

        There are none for the output layer, a projector or norms outside of the layers where the model has no such
        thing. Raises MethodError for a layer that does not exist.
        """
        by_layer = self._in_layers(site) if site in LAYER_SITES else self._outside_layers(site)
        for index in () if layers == "all" else layers:
            if index not in by_layer:
                raise MethodError(f"site {site!r} has layers {list(by_layer)}, not {index}")
        return [port for index, ports in by_layer.items() if layers == "all" or index in layers for port in ports]

    def norms(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        """Return the parameters of norms: of a whole stack (by class, not by name), or of the norms at a site."""
        norms: list[nn.Module] = []
        for name in names:
            if name in self._stacks:
                norms += [module for module in self._stacks[name].modules() if is_norm(module)]
            else:
                norms += [port.module for port in self.ports(f"{name}.ln")]
        return [parameter for norm in norms for parameter in norm.parameters()]

    def biases(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        """Return biases: of a whole stack (all with "bias" in their names, as in the official code), or of the Linears
        at a site."""
        biases: list[Any] = []
        for name in names:
            if name in self._stacks:
                biases += [p for full_name, p in self._stacks[name].named_parameters() if "bias" in full_name]
            else:
                biases += [port.module.bias for port in self.ports(name)]
        return biases

    def stack(self, name: str) -> Any:
        """Return HF's module of a stack, ``enc`` or ``dec``."""
        return self._stacks[name]

    def layers(self, name: str) -> nn.ModuleList:
        """Return the layers of a stack."""
        return self._stacks[name].layers if self.shape.family == "bart" else self._stacks[name].block

    def entrance(self, name: str) -> nn.Module:
        """Return the module whose output is a stack's text input before dropout: BART's embedding norm, T5's
        embedding."""
        stack = self._stacks[name]
        return stack.layernorm_embedding if self.shape.family == "bart" else stack.embed_tokens

    def dropout(self, name: str) -> float:
        """Return the dropout rate of a stack."""
        dropout = self._stacks[name].dropout
        return dropout.p if isinstance(dropout, nn.Dropout) else dropout

    def narrow(self, name: str, factor: int) -> tuple[nn.ModuleList, nn.Module | None]:
        """Return new layers like those of a stack with all widths divided by ``factor``, and T5's norm behind them.

        The layers have the stack's number of heads and dropout rates. Their start values are drawn as the model's own
        constructor draws them. In a cache their places follow those of the stack's layers.
        """
        stack, wide = self._stacks[name], self.layers(name)
        config, layer_class = deepcopy(stack.config), type(wide[0])
        for width in ("d_model", "d_ff", "d_kv", "encoder_ffn_dim", "decoder_ffn_dim"):
            if hasattr(config, width):
                setattr(config, width, getattr(config, width) // factor)
        norm: nn.Module | None = None
        if self.shape.family == "bart":
            layers = [layer_class(config, layer_idx=len(wide) + index) for index in range(len(wide))]
        else:
            layers = [layer_class(config, index == 0, layer_idx=len(wide) + index) for index in range(len(wide))]
            norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        narrow = nn.ModuleList(layers).apply(self.lm._init_weights)
        # A model's rates may have been changed since it was built, so they are not taken from the configuration.
        for narrow_module, wide_module in zip(narrow.modules(), wide.modules(), strict=True):
            for rate in ("p", "dropout", "activation_dropout"):
                if isinstance(getattr(wide_module, rate, None), float):
                    setattr(narrow_module, rate, getattr(wide_module, rate))
        return narrow, norm

    def _in_layers(self, site: str) -> dict[int, list[Port]]:
        family, layers = self.shape.family, self.layers(site[:3])
        return {index: ports_of(family, site, index, layer) for index, layer in enumerate(layers)}

    def _outside_layers(self, site: str) -> dict[int, list[Port]]:
        modules: list[nn.Module]
        if site == "lm.head":
            modules = [head for head in [self.lm.get_output_embeddings()] if head is not None]
        elif site == "vis.ln":
            modules = [] if self.visual is None else [module for module in self.visual.modules() if is_norm(module)]
        else:
            modules = [module for module in self._stacks[site[:3]].children() if is_norm(module)]
        return {index: [_module_port(site, index, module)] for index, module in enumerate(modules)}


def ports_of(family: str, site: str, index: int, layer: Any) -> list[Port]:
    """Return the ports of a site in ``layer``, an HF layer of any width."""
    return _bart(site, index, layer) if family == "bart" else _t5(site, index, layer)


def feature_linear(visual: nn.Module) -> tuple[str, nn.Linear]:
    """Return name and module of a visual projector's first Linear, the one on the features."""
    return next((name, module) for name, module in visual.named_modules() if isinstance(module, nn.Linear))


def position_table(layer: Any) -> nn.Parameter:
    """Return the relative position biases, ``buckets heads``, of the first layer of a T5 stack."""
    return layer.layer[0].SelfAttention.relative_attention_bias.weight


def position_bias(layer: Any, length: int) -> Tensor:
    """Return what the first layer of a T5 stack adds to its attention scores: ``1 heads length length``."""
    return layer.layer[0].SelfAttention.compute_bias(length, length)


def _bart(site: str, index: int, layer: Any) -> list[Port]:
    _, block, point = site.split(".")
    if point == "ln":
        return [_module_port(site, index, getattr(layer, NORM_MODULES[block]), layer)]
    if block == "ff":
        up, down, norm = layer.fc1, layer.fc2, getattr(layer, NORM_MODULES["ff"])
        return _feed_forward(site, index, layer, x=up, up=[up], down=down, out=down, normed=up, norm=norm)
    attention = getattr(layer, ATTENTION_MODULES["bart"][block])
    if point == "out":
        norm = getattr(layer, NORM_MODULES[block])
        return [Port(site, index, module=attention, x=attention, layer=layer, normed=attention, norm=norm)]
    if point == "kv":
        return [_into_cross_attention(site, index, attention, layer)]
    return [_module_port(site, index, getattr(attention, LINEAR_MODULES["bart"][point]), layer)]


def _t5(site: str, index: int, layer: Any) -> list[Port]:
    _, block, point = site.split(".")
    around = layer.layer[{"sa": 0, "xa": 1, "ff": -1}[block]]
    if point == "ln":
        return [_module_port(site, index, around.layer_norm, layer)]
    if block == "ff":
        ff = getattr(around, FEED_FORWARD_MODULE)
        up = [ff.wi_0, ff.wi_1] if hasattr(ff, "wi_0") else [ff.wi]
        return _feed_forward(site, index, layer, x=around, up=up, down=ff.wo, out=ff, normed=ff)
    attention = getattr(around, ATTENTION_MODULES["t5"][block])
    if point == "out":
        return [Port(site, index, module=attention, x=around, layer=layer, normed=attention)]
    if point == "kv":
        return [_into_cross_attention(site, index, attention, layer)]
    return [_module_port(site, index, getattr(attention, LINEAR_MODULES["t5"][point]), layer)]


def _into_cross_attention(site: str, index: int, attention: nn.Module, layer: nn.Module) -> Port:
    return Port(site, index, module=attention, x=attention, layer=layer, ahead=True, keyword="key_value_states")


def _feed_forward(
    site: str,
    index: int,
    layer: nn.Module,
    *,
    x: nn.Module,
    up: list[nn.Module],
    down: nn.Module,
    out: nn.Module,
    normed: nn.Module,
    norm: nn.Module | None = None,
) -> list[Port]:
    """The ports of an FFN with the Linears ``up`` (two where it is gated) and ``down``, and the output of ``out``;
    ``x``, ``normed`` and ``norm`` are as in :class:`Port`."""
    if site.endswith(".up"):
        return [_module_port(site, index, linear, layer) for linear in up]
    if site.endswith(".mid"):
        # The input of the down-projection: in a gated FFN the activation's output is only one factor of it.
        return [Port(site, index, module=down, x=down, layer=layer, ahead=True)]
    return [Port(site, index, module=out, x=x, layer=layer, normed=normed, norm=norm)]


def _module_port(site: str, index: int, module: Any, layer: nn.Module | None = None) -> Port:
    """The port of a Linear or a norm, of which X and H are input and output."""
    return Port(site, index, module=module, x=module, layer=layer)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm with trained weights."""
    return isinstance(module, nn.LayerNorm | T5LayerNorm)


# Further names of T5's modules, which official checkpoints repeat (bench/official/tensor_names.py).
T5_FEED_FORWARD_LINEARS = {"up": "wi", "out": "wo"}
"""HF's name of the Linears of T5's FFN without a gate, by point of a site."""
T5_NORM_MODULE, T5_STACK_NORM_MODULE = "layer_norm", "final_layer_norm"
"""HF's name of the norm in a sub-layer of T5, and of that at the end of a stack."""
