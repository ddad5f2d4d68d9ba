"""A visual projector of low rank."""

import torch
from torch import Tensor, nn

from methods.blocks.bottleneck import BottleneckBlock
from methods.blocks.layer_factory import LayerFactory


class LowRankProjector(nn.Module):
    """``F = W_up · gelu(W_down · feats)``, returned as it is (gate "none"), as F ⊙ G ("mul") or as F + F ⊙ G
    ("residual").

    ``G = σ(V_up · gelu(V_down · feats))`` (VL-PET official code, ``lowrank_visual_projector``).
    """

    def __init__(self, feat_dim: int, r: int, d: int, gate: str, make: LayerFactory) -> None:
        super().__init__()
        self.body = BottleneckBlock(make.linear(feat_dim, r), make.linear(r, d))
        self.gate = None if gate == "none" else BottleneckBlock(make.linear(feat_dim, r), make.linear(r, d))
        self.residual = gate == "residual"

    def forward(self, feats: Tensor) -> Tensor:
        """``b v feat_dim -> b v d``, v the number of visual tokens."""
        tokens = self.body(feats)
        if self.gate is None:
            return tokens
        gated = tokens * torch.sigmoid(self.gate(feats))
        return tokens + gated if self.residual else gated
