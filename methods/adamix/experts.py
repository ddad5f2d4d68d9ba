"""A mixture of affine maps, one of which is drawn for every forward pass in training (AdaMix)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import LayerFactory


class ExpertLinear(nn.Module):
    """``experts`` affine maps ``b n d_in -> b n d_out``: in training one of them, in evaluation their average.

    In training every call draws one expert uniformly, for the whole batch. In evaluation the map is that of the mean
    weight and the mean bias, so that it costs what a single map costs.

    ``weight`` is ``experts d_out d_in`` and ``bias`` ``experts d_out``. They are single tensors on purpose: an expert
    that was not drawn gets a gradient of zero instead of none, so its moments in AdamW go on decaying.
    """

    def __init__(self, experts: int, d_in: int, d_out: int, init: str, make: LayerFactory) -> None:
        super().__init__()
        self.weight, self.bias = make.grouped(experts, d_in, d_out, init)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        if not self.training:
            return F.linear(u, self.weight.mean(dim=0), self.bias.mean(dim=0))
        expert = self._draw()
        return F.linear(u, self.weight[expert], self.bias[expert])

    def _draw(self) -> int:
        # From torch's generator on the CPU: checkpoints of a run and the replay of gradient checkpointing restore it,
        # and reading the number does not wait for a GPU. A single expert leaves the generator alone.
        experts = len(self.weight)
        return int(torch.randint(experts, ())) if experts > 1 else 0
