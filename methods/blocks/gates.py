"""Granularity matrices G of VL-PET (ICCV 2023, section 3.2), as the official code computes them, and what its
ablations put in their place."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.bottleneck import Bottleneck
from methods.blocks.layer_factory import LayerFactory

if TYPE_CHECKING:
    from methods.core.spec import Gate as GateSpec

READ: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "x": lambda x, h, hhat: x,
    "h": lambda x, h, hhat: h,
    "hhat": lambda x, h, hhat: hhat,
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
    """``G = pool(squash(body(read(X, H, Ĥ))))``, of a shape that broadcasts over ``b n d``, and what it does to Ĥ."""

    def __init__(self, spec: "GateSpec", d_in: int, d_out: int, *, make: LayerFactory) -> None:
        super().__init__()
        self.spec = spec
        if spec.kind == "vector":
            self.z = make.vector(d_out, spec.init)
        elif spec.kind == "dense":
            self.body: nn.Module = make.linear(d_in, d_out, spec.init)
        elif spec.kind == "lowrank":
            self.body = Bottleneck(make.linear(d_in, spec.r, spec.init_down), make.linear(spec.r, d_out, spec.init))
        elif spec.kind == "layernorm":
            self.body = make.norm(d_out)

    def forward(self, x: Tensor, h: Tensor, change: Tensor, hhat: Tensor, seen: Tensor | None = None) -> Tensor:
        """The gated ``b n d`` from X, H, ΔH and Ĥ = H + ΔH.

        ``seen`` b n tells tokens from padding (masked mean only, None: no padding).
        """
        spec = self.spec
        if spec.kind == "layernorm":
            return self.body(hhat)
        if spec.kind == "l2norm":
            return F.normalize(hhat, dim=-1)
        gate = self.values(x, h, change, hhat, seen)
        target = hhat if spec.target == "hhat" else h
        out = gate * target if spec.op == "mul" else target + gate
        return out if spec.target == "hhat" else change + out

    def values(self, x: Tensor, h: Tensor, change: Tensor, hhat: Tensor, seen: Tensor | None = None) -> Tensor:
        """G itself."""
        spec = self.spec
        if spec.kind == "vector":
            logits: Tensor = self.z
        elif spec.kind == "self":
            logits = change
        else:
            logits = self.body(READ[spec.input](x, h, hhat))
        gate = SQUASH[spec.squash](logits)
        if spec.pool == "none":
            return gate
        if spec.pool == "masked_mean" and seen is not None:
            weight = seen.to(gate.dtype).unsqueeze(-1)
            return (gate * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
        # As in the official code over all positions: padding and visual tokens count as well.
        return gate.mean(dim=1, keepdim=True)
