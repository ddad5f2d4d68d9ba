"""Where a named site is in an HF BART or T5, and what X and H are there. The only file that knows HF's module names.

A site in the layers is ``stack.block.point``: ``enc``/``dec``, then ``sa`` (self-attention), ``xa`` (cross-attention)
or ``ff``, then ``q k v o`` (the projections), ``up`` and ``mid`` (the FFN before and after its activation), ``out``
(what the block gives to dropout and residual) or ``ln`` (the block's norm). ``enc.end.ln``/``dec.end.ln`` are the norms
of a stack outside its layers, ``lm.head`` the output layer, ``vis.ln`` the norms of a wrapper's visual projector.

X is what enters the block. In BART (post-LN) that is the residual stream. In T5 (pre-LN) there are two candidates; as
in the VL-PET official code it is the residual stream *before* the norm, whose magnitude can be tens.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from methods.errors import MethodError
from methods.shape import Shape
from methods.spec import LAYER_SITES


@dataclass(frozen=True, eq=False)
class Port:
    """One site of one layer: H is (the first item of) the output of ``module``, X the first argument of ``x``.

    With ``ahead`` H is what goes into ``module`` instead. ``layer`` is the whole transformer layer around them, where
    there is one; its second argument, the attention mask, tells tokens from padding.
    """

    site: str
    index: int
    module: nn.Module
    x: nn.Module
    d_x: int
    d_h: int
    layer: nn.Module | None = None
    ahead: bool = False

    @property
    def key(self) -> str:
        """A name without dots: the layer's index after the stack, such as ``enc_3_sa_out``."""
        stack, *rest = self.site.split(".")
        return "_".join([stack, str(self.index), *rest])


class Sites:
    """The sites of a language model (an HF BART or T5) and of the visual projector beside it, if there is one."""

    def __init__(self, lm: Any, visual: nn.Module | None = None) -> None:
        """Raises MethodError where ``lm`` is not an HF BART or T5."""
        if not hasattr(lm, "config") or not hasattr(lm, "get_encoder"):
            raise MethodError(f"methods attach to an HF BART or T5, or to a wrapper with one as .lm; not to {type(lm)}")
        self.lm = lm
        self.visual = visual
        self.shape = Shape.of(lm.config)
        self._stacks: dict[str, Any] = {"enc": lm.get_encoder(), "dec": lm.get_decoder()}

    def ports(self, site: str, layers: str | tuple[int, ...] = "all") -> list[Port]:
        """The ports of ``site``, layer by layer; MethodError for a layer that is not there.

        A model without an output layer, a projector or norms at the ends of its stacks has no ports there.
        """
        found = self._in_layers(site) if site in LAYER_SITES else self._outside_layers(site)
        for index in () if layers == "all" else layers:
            if index not in found:
                raise MethodError(f"site {site!r} has layers {list(found)}, not {index}")
        return [port for index, ports in found.items() if layers == "all" or index in layers for port in ports]

    def norms(self, stacks: tuple[str, ...]) -> list[nn.Parameter]:
        """Parameters of every norm in these stacks, those at its ends included: by class, not by name."""
        norms = (module for stack in stacks for module in self._stacks[stack].modules() if _is_norm(module))
        return [parameter for norm in norms for parameter in norm.parameters()]

    def biases(self) -> list[nn.Parameter]:
        """Parameters called "bias" by the official code's substring rule; on T5 that is the relative position bias."""
        return [parameter for name, parameter in self.lm.named_parameters() if "bias" in name]

    def _in_layers(self, site: str) -> dict[int, list[Port]]:
        stack = self._stacks[site[:3]]
        ports, layers = (_bart, stack.layers) if self.shape.family == "bart" else (_t5, stack.block)
        return {index: ports(site, index, layer) for index, layer in enumerate(layers)}

    def _outside_layers(self, site: str) -> dict[int, list[Port]]:
        modules: list[nn.Module]
        if site == "lm.head":
            modules = [head for head in [self.lm.get_output_embeddings()] if head is not None]
        elif site == "vis.ln":
            modules = [] if self.visual is None else [module for module in self.visual.modules() if _is_norm(module)]
        else:
            modules = [module for module in self._stacks[site[:3]].children() if _is_norm(module)]
        return {index: [_whole(site, index, module)] for index, module in enumerate(modules)}


def _bart(site: str, index: int, layer: Any) -> list[Port]:
    _, block, point = site.split(".")
    if point == "ln":
        names = {"sa": "self_attn_layer_norm", "xa": "encoder_attn_layer_norm", "ff": "final_layer_norm"}
        return [_whole(site, index, getattr(layer, names[block]), layer)]
    if block == "ff":
        return _feed_forward(site, index, layer, x=layer.fc1, up=[layer.fc1], down=layer.fc2, out=layer.fc2)
    attention = layer.self_attn if block == "sa" else layer.encoder_attn
    if point == "out":
        d = attention.embed_dim
        return [Port(site, index, module=attention, x=attention, layer=layer, d_x=d, d_h=d)]
    return [_whole(site, index, getattr(attention, {"o": "out_proj"}.get(point, f"{point}_proj")), layer)]


def _t5(site: str, index: int, layer: Any) -> list[Port]:
    _, block, point = site.split(".")
    around = layer.layer[{"sa": 0, "xa": 1, "ff": -1}[block]]
    if point == "ln":
        return [_whole(site, index, around.layer_norm, layer)]
    if block == "ff":
        ff = around.DenseReluDense
        up = [ff.wi_0, ff.wi_1] if hasattr(ff, "wi_0") else [ff.wi]
        return _feed_forward(site, index, layer, x=around, up=up, down=ff.wo, out=ff)
    attention = around.SelfAttention if block == "sa" else around.EncDecAttention
    if point == "out":
        d = attention.d_model
        return [Port(site, index, module=attention, x=around, layer=layer, d_x=d, d_h=d)]
    return [_whole(site, index, getattr(attention, point), layer)]


def _feed_forward(
    site: str, index: int, layer: nn.Module, *, x: nn.Module, up: list[nn.Linear], down: nn.Linear, out: nn.Module
) -> list[Port]:
    d, ff = down.out_features, down.in_features
    if site.endswith(".up"):
        return [_whole(site, index, linear, layer) for linear in up]
    if site.endswith(".mid"):
        # What goes into the down-projection, because in a gated FFN the activation's output is but one factor of it.
        return [Port(site, index, module=down, x=x, layer=layer, d_x=d, d_h=ff, ahead=True)]
    return [Port(site, index, module=out, x=x, layer=layer, d_x=d, d_h=d)]


def _whole(site: str, index: int, module: Any, layer: nn.Module | None = None) -> Port:
    """The port of a Linear or a norm: X and H are its own input and output."""
    if isinstance(module, nn.Linear):
        d_x, d_h = module.in_features, module.out_features
    else:
        d_x = d_h = len(module.weight)
    return Port(site, index, module=module, x=module, layer=layer, d_x=d_x, d_h=d_h)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm | T5LayerNorm)
