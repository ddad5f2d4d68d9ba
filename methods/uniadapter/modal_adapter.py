"""Bottlenecks with one down-projection for text, visual tokens and the decoder's states (UniAdapter)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import LayerFactory
from methods.core import context


class ModalWeights(nn.Module):
    """The weights of layer i of both stacks: ``z = relu(W_down · LN(u) + b_down)`` of rank ``r``, and up-projections
    from z for ``text``, for ``visual`` tokens and for the decoder's states (``cross``), as far as they are asked for.
    """

    def __init__(self, d: int, r: int, *, text: bool, visual: bool, cross: bool, make: LayerFactory) -> None:
        super().__init__()
        self.norm = make.norm(d)
        self.down = make.linear(d, r, "kaiming")
        start_rules = {"text": "zeros", "visual": "torch", "cross": "torch"}
        needed = {"text": text, "visual": visual, "cross": cross}
        self.up = nn.ModuleDict({name: make.linear(r, d, start_rules[name]) for name in needed if needed[name]})

    def forward(self, u: Tensor) -> Tensor:
        """Return z, ``b n d -> b n r``."""
        return F.relu(self.down(self.norm(u.to(self.down.weight.dtype))))


class EncoderAdapter(nn.Module):
    """``scale · W_text · z`` for text and ``scale · W_visual · z`` for the visual tokens behind it."""

    def __init__(self, weights: ModalWeights, scale: float) -> None:
        super().__init__()
        self._weights = (weights,)  # in a tuple, so that it is no submodule: the decoder's layer shares it
        self.scale = scale

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``, under ``with context.visual(...)``."""
        (weights,) = self._weights
        z, text = weights(u), u.shape[1] - context.visual_tokens()
        return self.scale * torch.cat([weights.up["text"](z[:, :text]), weights.up["visual"](z[:, text:])], dim=1)


class DecoderAdapter(nn.Module):
    """``scale · LN(W_cross · z + W_text · z)``, or ``scale · W_cross · z`` where there is no ``norm``; with
    ``residual`` plus ``scale · W_text · z`` of the input of cross-attention."""

    def __init__(self, weights: ModalWeights, norm: nn.Module | None, scale: float, residual: bool) -> None:
        super().__init__()
        self._weights = (weights,)
        self.norm = norm
        self.scale = scale
        self.residual = residual
        self.query: Tensor | None = None

    def store_query(self, query: Tensor) -> None:
        """Keep the input of cross-attention, ``b n d``, for the next call."""
        self.query = query

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``."""
        (weights,) = self._weights
        z = weights(u)
        change = weights.up["cross"](z)
        if self.norm is not None:
            change = self.norm(change + weights.up["text"](z))
        if self.residual:
            query, self.query = self.query, None
            change = change + weights.up["text"](weights(query))
        return self.scale * change
