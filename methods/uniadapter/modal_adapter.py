"""Bottlenecks whose down-projection text, visual tokens and what attends to both have in common (UniAdapter)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import LayerFactory
from methods.core import context

if TYPE_CHECKING:
    from methods.uniadapter import UniAdapter


class Modal(nn.Module):
    """The weights of one layer of both stacks: ``z = relu(W_down · LN(u) + b_down)``, and up-projections from z for
    ``text``, for ``visual`` tokens (of an encoder layer) and for the decoder's states (``cross``, of a decoder layer).
    """

    def __init__(self, spec: "UniAdapter", d: int, make: LayerFactory, *, encoder: bool, decoder: bool) -> None:
        super().__init__()
        self.norm = make.norm(d)
        self.down = make.linear(d, spec.r, "kaiming")
        starts = {"text": "zeros", "visual": "torch", "cross": "torch"}
        wanted = {"text": encoder or spec.cross_modal or spec.query_residual, "visual": encoder, "cross": decoder}
        self.up = nn.ModuleDict({name: make.linear(spec.r, d, starts[name]) for name, yes in wanted.items() if yes})

    def forward(self, u: Tensor) -> Tensor:
        """z: ``b n d -> b n r``."""
        return F.relu(self.down(self.norm(u.to(self.down.weight.dtype))))


class Joint(nn.Module):
    """In the encoder: ``scale · W_text · z`` for text, ``scale · W_visual · z`` for the visual tokens at its end."""

    def __init__(self, modal: Modal, scale: float) -> None:
        super().__init__()
        self._modal = (modal,)  # not a submodule: the decoder's layer has the same
        self.scale = scale

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``, under ``with context.visual(...)``."""
        (modal,) = self._modal
        z, text = modal(u), u.shape[1] - context.visual_tokens()
        return self.scale * torch.cat([modal.up["text"](z[:, :text]), modal.up["visual"](z[:, text:])], dim=1)


class Cross(nn.Module):
    """In the decoder: ``scale · LN(W_cross · z + W_text · z)``, or ``scale · W_cross · z`` without that ``norm``; with
    ``residual`` also ``scale · W_text · z`` of what cross-attention asks with."""

    def __init__(self, modal: Modal, norm: nn.Module | None, scale: float, residual: bool) -> None:
        super().__init__()
        self._modal = (modal,)
        self.norm = norm
        self.scale = scale
        self.residual = residual
        self.query: Tensor | None = None

    def see(self, query: Tensor) -> None:
        """Take the states that enter cross-attention."""
        self.query = query

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``."""
        (modal,) = self._modal
        z = modal(u)
        change = modal.up["cross"](z)
        if self.norm is not None:
            change = self.norm(change + modal.up["text"](z))
        if self.residual:
            query, self.query = self.query, None
            change = change + modal.up["text"](modal(query))
        return self.scale * change
