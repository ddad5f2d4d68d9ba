"""What stands at one site of one layer: modification, gate and scale in their order."""

from torch import Tensor, nn


class Patched(nn.Module):
    """``H' = scale · G ⊙ (H + delta_scale · ΔH)``; a missing delta is 0, a missing gate is 1."""

    def __init__(
        self, delta: nn.Module | None, gate: nn.Module | None, *, reads_x: bool, delta_scale: float, scale: float
    ) -> None:
        super().__init__()
        self.delta = delta
        self.gate = gate
        self.reads_x = reads_x
        self.delta_scale = delta_scale
        self.scale = scale

    def forward(self, x: Tensor, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """``b n d -> b n d``, in the dtype of ``h``.

        T5 keeps its FFN output in float32 when the rest is in half precision: blocks compute in their own dtype, and
        what they return is cast to that of ``h``.
        """
        own = next((p.dtype for p in self.parameters()), h.dtype)
        hhat = h
        if self.delta is not None:
            change = self.delta((x if self.reads_x else h).to(own)).to(h.dtype)
            hhat = h + (change if self.delta_scale == 1.0 else self.delta_scale * change)
        out = hhat
        if self.gate is not None:
            out = self.gate(x.to(own), h.to(own), hhat.to(own), seen).to(h.dtype) * hhat
        return out if self.scale == 1.0 else self.scale * out
