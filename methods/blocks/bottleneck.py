"""The bottleneck ``W_up · act(W_down · u + b_d) + b_u`` of adapters, gates and VL-PET."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory

ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "none": lambda u: u,
}


class Bottleneck(nn.Module):
    """Down to r, through ``act``, up to d_out: ``after(scale · up(act(down(before(u)))))``.

    Heads that split the rows of a matrix and are concatenated again are that matrix, so they are kept stacked in one
    Linear: row block i of ``down`` (or ``up``) is head i. Only with :class:`Pairs` for ``up`` does the function differ.
    """

    def __init__(
        self,
        down: nn.Module,
        up: nn.Module,
        *,
        act: str = "gelu_tanh",
        scale: float = 1.0,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.act = ACTS[act]
        self.scale = scale
        self.before = before
        self.down = down
        self.up = up
        self.after = after

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        if self.before is not None:
            u = self.before(u)
        u = self.up(self.act(self.down(u)))
        if self.scale != 1.0:
            u = self.scale * u
        return u if self.after is None else self.after(u)


class Pairs(nn.Module):
    """Head i of the output reads head i of the input alone: a block-diagonal matrix, kept as ``weight`` g o i."""

    def __init__(self, groups: int, d_in: int, d_out: int, init: str, make: LayerFactory) -> None:
        super().__init__()
        self.weight, self.bias = make.grouped(groups, d_in // groups, d_out // groups, init)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        heads = u.unflatten(-1, (self.weight.shape[0], -1))
        return (torch.einsum("...gi,goi->...go", heads, self.weight) + self.bias).flatten(-2)


class Factored(nn.Module):
    """An affine map whose matrix is a product of two of rank k: ``y = u · L · R + b``.

    L is d_in x k, R k x d_out, both Glorot-uniform with gain √2 (R at zero with init "zeros"), b starts at 0. With
    k = 1 the low-rank adapter of VL-Adapter's official code.
    """

    def __init__(self, d_in: int, d_out: int, rank: int, init: str, make: LayerFactory) -> None:
        super().__init__()
        self.left = make.glorot(d_in, rank)
        self.right = make.glorot(rank, d_out, zero=init == "zeros")
        self.bias = make.vector(d_out, "zeros")

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        return u @ self.left @ self.right + self.bias
