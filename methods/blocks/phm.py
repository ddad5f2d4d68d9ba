"""Parametrised hypercomplex multiplication, the matrices of Compacter (Mahabadi et al., 2021)."""

import math

import torch
from torch import Tensor, nn

from methods.blocks.init import Maker

RULE_STD = 0.01  # as the VL-Adapter and VL-PET scripts set it; their class default is 1e-4


class PHM(nn.Module):
    """``y = u · W + b`` with ``W = Σ_i A_i ⊗ B_i``: ``b n d_in -> b n d_out``.

    ``rule`` A is n x n x n and ``slices`` B n x d_in/n x d_out/n, both learned and of this matrix alone; neither is
    factorised. A starts as N(0, 0.01²), each B_i Glorot-uniform with gain √2 (or all at zero), b at 0.
    """

    def __init__(self, n: int, d_in: int, d_out: int, init: str, make: Maker) -> None:
        super().__init__()
        self.rule = make.normal(n, n, n, std=RULE_STD)
        bound = 0.0 if init == "zeros" else math.sqrt(2) * math.sqrt(6 / (d_in // n + d_out // n))
        self.slices = make.uniform(n, d_in // n, d_out // n, bound=bound)
        self.bias = make.vector(d_out, "zeros")

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        weight = torch.einsum("iac,ipq->apcq", self.rule, self.slices).flatten(2).flatten(0, 1)
        return u @ weight + self.bias
