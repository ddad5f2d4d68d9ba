"""Granularity matrices G of VL-PET (ICCV 2023, section 3.2), as the official code computes them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from methods.blocks.bottleneck import Bottleneck
from methods.blocks.init import Maker

if TYPE_CHECKING:
    from methods.spec import Gate as GateSpec

READ: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "x": lambda x, h, hhat: x,
    "x+h": lambda x, h, hhat: x + h,
    "x+hhat": lambda x, h, hhat: x + hhat,
    "cat(x,h)": lambda x, h, hhat: torch.cat([x, h], dim=-1),
    "cat(x,hhat)": lambda x, h, hhat: torch.cat([x, hhat], dim=-1),
}
SQUASH: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "one_plus": lambda z: 1 + z,
    "one_plus_sigmoid": lambda z: 1 + torch.sigmoid(z),
    "none": lambda z: z,
}


class Gate(nn.Module):
    """``pool(squash(body(read(X, H, Ĥ))))``, of a shape that broadcasts over ``b n d``."""

    def __init__(self, spec: "GateSpec", d_in: int, d_out: int, *, make: Maker) -> None:
        super().__init__()
        self.read = spec.input
        self.squash = spec.squash
        self.pool = spec.pool
        if spec.kind == "vector":
            self.z = make.vector(d_out, spec.init)
        elif spec.kind == "dense":
            self.body: nn.Module = make.linear(d_in, d_out, spec.init)
        else:
            self.body = Bottleneck(make.linear(d_in, spec.r), make.linear(spec.r, d_out, spec.init), act="gelu_tanh")

    def forward(self, x: Tensor, h: Tensor, hhat: Tensor, seen: Tensor | None = None) -> Tensor:
        """G from ``b n d`` tensors; ``seen`` b n tells tokens from padding (masked mean only, None: no padding)."""
        logits = self.z if self.read == "none" else self.body(READ[self.read](x, h, hhat))
        gate = SQUASH[self.squash](logits)
        if self.pool == "none":
            return gate
        if self.pool == "masked_mean" and seen is not None:
            weight = seen.to(gate.dtype).unsqueeze(-1)
            return (gate * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
        # As in the official code over all positions: padding and visual tokens count as well.
        return gate.mean(dim=1, keepdim=True)
