"""The bottleneck ``W_up · act(W_down · u + b_down) + b_up`` of adapters, gates and VL-PET."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "none": lambda u: u,
}


class BottleneckBlock(nn.Module):
    """``after(scale · up(act(down(before(u)))))``: ``b n d_in -> b n d_out`` by way of ``b n r``.

    Several heads that split the rows of a matrix and are concatenated afterwards compute what the whole matrix
    computes, so they are stored as one Linear: row block i of ``down`` (or ``up``) is head i. The function differs only
    where ``up`` is a :class:`BlockDiagonalLinear`.
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
        self.act = ACTIVATIONS[act]
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


class BlockDiagonalLinear(nn.Module):
    """An affine map in which head i of the output reads head i of the input only: ``b n d_in -> b n d_out``.

    ``weight`` is ``heads d_out/heads d_in/heads`` and ``bias`` ``heads d_out/heads``.
    """

    def __init__(self, heads: int, d_in: int, d_out: int, init: str, make: LayerFactory) -> None:
        super().__init__()
        self.weight, self.bias = make.grouped(heads, d_in // heads, d_out // heads, init)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        heads = u.unflatten(-1, (self.weight.shape[0], -1))
        return (torch.einsum("...gi,goi->...go", heads, self.weight) + self.bias).flatten(-2)


class FactoredLinear(nn.Module):
    """An affine map whose matrix is a product of two of rank ``rank``: ``y = u · L · R + b``.

    L is ``d_in rank`` and R ``rank d_out``, both Glorot-uniform with gain √2 (R zero with init "zeros"); b starts at 0.
    With rank 1 this is the low-rank adapter of VL-Adapter's official code.
    """

    def __init__(self, d_in: int, d_out: int, rank: int, init: str, make: LayerFactory) -> None:
        super().__init__()
        self.left = make.glorot(d_in, rank)
        self.right = make.glorot(rank, d_out, zero=init == "zeros")
        self.bias = make.vector(d_out, "zeros")

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        return u @ self.left @ self.right + self.bias
