"""Parametrised hypercomplex multiplication, the matrices of Compacter (Mahabadi et al., 2021)."""

from functools import partial

import torch
from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory

RULE_STD = 0.01  # as the VL-Adapter and VL-PET scripts set it; their class default is 1e-4


class PHMLinear(nn.Module):
    """``y = u · W + b`` with ``W = Σ_i A_i ⊗ B_i``: ``b n d_in -> b n d_out``.

    ``rule`` holds the A_i, ``n n n``; it belongs to this matrix alone, or with ``shared`` to every such matrix of the
    model. ``slices`` holds the B_i, ``n d_in/n d_out/n``; with a ``rank`` > 0 they are products ``left`` · ``right`` of
    that rank instead. A starts as N(0, 0.01²), every slice or factor Glorot-uniform with gain √2 (with init "zeros" the
    slices, or the right factors, are zero), b at 0.
    """

    def __init__(
        self, n: int, d_in: int, d_out: int, init: str, make: LayerFactory, *, rank: int = 0, shared: bool = False
    ) -> None:
        super().__init__()
        draw = partial(make.normal, n, n, n, std=RULE_STD)
        self.rule = make.once(("phm rule", n), draw) if shared else draw()
        zero = init == "zeros"
        if rank:
            self.left = make.glorot(n, d_in // n, rank)
            self.right = make.glorot(n, rank, d_out // n, zero=zero)
        else:
            self.slices = make.glorot(n, d_in // n, d_out // n, zero=zero)
        self.bias = make.vector(d_out, "zeros")
        self.factorised = bool(rank)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        slices = self.left @ self.right if self.factorised else self.slices
        weight = torch.einsum("iac,ipq->apcq", self.rule, slices).flatten(2).flatten(0, 1)
        return u @ weight + self.bias
