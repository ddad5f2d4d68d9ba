"""The bottleneck ``W_up · act(W_down · u + b_d) + b_u`` of adapters, gates and VL-PET."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.blocks.init import Maker

ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class Bottleneck(nn.Module):
    """Down to r, through ``act``, up to d_out: ``b n d_in -> b n d_out``.

    Heads that split the rows of a matrix and are concatenated again are that matrix, so they are kept stacked in one
    Linear: row block i of ``down`` (or ``up``) is head i. Only with :class:`Pairs` for ``up`` does the function differ.
    """

    def __init__(self, down: nn.Module, up: nn.Module, *, act: str) -> None:
        super().__init__()
        self.act = ACTS[act]
        self.down = down
        self.up = up

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        return self.up(self.act(self.down(u)))


class Pairs(nn.Module):
    """Head i of the output reads head i of the input alone: a block-diagonal matrix, kept as ``weight`` g o i."""

    def __init__(self, groups: int, d_in: int, d_out: int, init: str, make: Maker) -> None:
        super().__init__()
        self.weight, self.bias = make.grouped(groups, d_in // groups, d_out // groups, init)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        heads = u.unflatten(-1, (self.weight.shape[0], -1))
        return (torch.einsum("...gi,goi->...go", heads, self.weight) + self.bias).flatten(-2)
