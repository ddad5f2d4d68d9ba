"""Granularity matrices G of VL-PET (ICCV 2023, section 3.2) as the official code computes them, and the modules that
its ablations put in their place."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.bottleneck import BottleneckBlock
from methods.blocks.layer_factory import LayerFactory

INPUTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
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


class GateBlock(nn.Module):
    """``G = pool(squash(body(input)))`` and its application to Ĥ = H + ΔH.

    ``kind`` says what computes G: ``vector`` a trained vector of width ``d_out``, ``dense`` one Linear, ``lowrank`` a
    bottleneck of rank ``r``, ``self`` ΔH itself. ``layernorm`` (trained) and ``l2norm`` compute no G: they stand in the
    gate's place and normalise Ĥ. The other arguments are those of :class:`methods.core.spec.Gate`; ``d_in`` is the
    width of the ``input``, ``d_out`` that of G (1 or the width of H).
    """

    def __init__(
        self,
        kind: str,
        d_in: int,
        d_out: int,
        *,
        input: str = "none",
        squash: str = "sigmoid",
        pool: str = "none",
        op: str = "mul",
        target: str = "hhat",
        r: int = 0,
        init_down: str = "backbone",
        init: str = "backbone",
        make: LayerFactory,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.input = input
        self.squash = squash
        self.pool = pool
        self.op = op
        self.target = target
        if kind == "vector":
            self.z = make.vector(d_out, init)
        elif kind == "dense":
            self.body: nn.Module = make.linear(d_in, d_out, init)
        elif kind == "lowrank":
            self.body = BottleneckBlock(make.linear(d_in, r, init_down), make.linear(r, d_out, init))
        elif kind == "layernorm":
            self.body = make.norm(d_out)

    def forward(self, x: Tensor, h: Tensor, change: Tensor, hhat: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return the gated output ``b n d``.

        Args:
            x: X, ``b n d_x``.
            h: H, ``b n d``.
            change: ΔH, ``b n d`` or something that broadcasts to it.
            hhat: Ĥ = H + ΔH, ``b n d``.
            token_mask: ``b n`` bool, False where a position is padding; read by the masked mean only. None: no padding.
        """
        if self.kind == "layernorm":
            return self.body(hhat)
        if self.kind == "l2norm":
            return F.normalize(hhat, dim=-1)
        gate = self.values(x, h, change, hhat, token_mask)
        target = hhat if self.target == "hhat" else h
        out = gate * target if self.op == "mul" else target + gate
        return out if self.target == "hhat" else change + out

    def values(self, x: Tensor, h: Tensor, change: Tensor, hhat: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return G, which broadcasts over ``b n d``; the arguments are those of :meth:`forward`."""
        if self.kind == "vector":
            logits: Tensor = self.z
        elif self.kind == "self":
            logits = change
        else:
            logits = self.body(INPUTS[self.input](x, h, hhat))
        gate = SQUASH[self.squash](logits)
        if self.pool == "none":
            return gate
        if self.pool == "masked_mean" and token_mask is not None:
            weight = token_mask.to(gate.dtype).unsqueeze(-1)
            return (gate * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
        # As in the official code, the mean is over all positions: padding and visual tokens count as well.
        return gate.mean(dim=1, keepdim=True)
