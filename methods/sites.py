"""Where a named site is in an HF BART or T5, and what X and H are there. The only file that knows HF's module names.

A site is ``stack.block.point``: ``enc``/``dec``, then ``sa`` (self-attention), ``xa`` (cross-attention) or ``ff``, then
``q k v o`` (the projections) or ``out`` (what the block gives to dropout and residual).

X is what enters the block. In BART (post-LN) that is the residual stream. In T5 (pre-LN) there are two candidates; as
in the VL-PET official code it is the residual stream *before* the norm, whose magnitude can be tens.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from methods.errors import MethodError
from methods.shape import Shape
from methods.spec import SITES


@dataclass(frozen=True, eq=False)
class Port:
    """One site of one layer: H is (the first item of) the output of ``module``, X the first argument of ``x``.

    ``layer`` is the whole transformer layer around them; its ``attention_mask`` argument tells tokens from padding.
    """

    site: str
    index: int
    module: nn.Module
    x: nn.Module
    layer: nn.Module
    d_x: int
    d_h: int

    @property
    def key(self) -> str:
        """A name without dots, such as ``enc_3_sa_out``."""
        stack, block, point = self.site.split(".")
        return f"{stack}_{self.index}_{block}_{point}"


class Sites:
    """The sites of one language model: an HF BART or T5 with encoder and decoder."""

    def __init__(self, lm: Any) -> None:
        """Raises MethodError where ``lm`` is not an HF BART or T5."""
        if not hasattr(lm, "config") or not hasattr(lm, "get_encoder"):
            raise MethodError(f"methods attach to an HF BART or T5, or to a wrapper with one as .lm; not to {type(lm)}")
        self.lm = lm
        self.shape = Shape.of(lm.config)
        self._stacks: dict[str, Any] = {"enc": lm.get_encoder(), "dec": lm.get_decoder()}

    def ports(self, site: str, layers: str | tuple[int, ...] = "all") -> list[Port]:
        """The ports of ``site``, by layer; MethodError for an unknown site or a layer that is not there."""
        if site not in SITES:
            raise MethodError(f"unknown site {site!r}")
        stack = self._layers(site[:3])
        wanted = range(len(stack)) if layers == "all" else layers
        for index in wanted:
            if not 0 <= int(index) < len(stack):
                raise MethodError(f"site {site!r} has layers 0 to {len(stack) - 1}, not {index}")
        port = _bart if self.shape.family == "bart" else _t5
        return [port(site, int(index), stack[int(index)], self.shape.d) for index in wanted]

    def norms(self, stacks: tuple[str, ...]) -> list[nn.Parameter]:
        """Parameters of every norm in these stacks, those at its ends included: by class, not by name."""
        return [
            parameter
            for stack in stacks
            for module in self._stacks[stack].modules()
            if isinstance(module, nn.LayerNorm | T5LayerNorm)
            for parameter in module.parameters()
        ]

    def biases(self) -> list[nn.Parameter]:
        """Parameters called "bias" by the official code's substring rule; on T5 that is the relative position bias."""
        return [parameter for name, parameter in self.lm.named_parameters() if "bias" in name]

    def _layers(self, stack: str) -> nn.ModuleList:
        return self._stacks[stack].layers if self.shape.family == "bart" else self._stacks[stack].block


def _bart(site: str, index: int, layer: Any, d: int) -> Port:
    _, block, point = site.split(".")
    if block == "ff":
        return Port(site, index, module=layer.fc2, x=layer.fc1, layer=layer, d_x=d, d_h=d)
    attention = layer.self_attn if block == "sa" else layer.encoder_attn
    if point == "out":
        return Port(site, index, module=attention, x=attention, layer=layer, d_x=d, d_h=d)
    return _projection(site, index, getattr(attention, {"o": "out_proj"}.get(point, f"{point}_proj")), layer)


def _t5(site: str, index: int, layer: Any, d: int) -> Port:
    _, block, point = site.split(".")
    if block == "ff":
        around = layer.layer[-1]
        return Port(site, index, module=around.DenseReluDense, x=around, layer=layer, d_x=d, d_h=d)
    around = layer.layer[0 if block == "sa" else 1]
    attention = around.SelfAttention if block == "sa" else around.EncDecAttention
    if point == "out":
        return Port(site, index, module=attention, x=around, layer=layer, d_x=d, d_h=d)
    return _projection(site, index, getattr(attention, point), layer)


def _projection(site: str, index: int, linear: nn.Linear, layer: nn.Module) -> Port:
    return Port(site, index, module=linear, x=linear, layer=layer, d_x=linear.in_features, d_h=linear.out_features)
