"""What stands at one site of one layer: modification, gate and scale in their order."""

from torch import Tensor, nn


class Patched(nn.Module):
    """``H' = scale · G ⊙ (h_scale · H + ΔH)``; a missing delta is 0, a missing gate is 1.

    ``keep`` "x" puts X in the place of H, "none" nothing; ``plus_x`` adds X to the result; a ``masked`` delta is told
    tokens from padding.
    """

    def __init__(
        self,
        delta: nn.Module | None,
        gate: nn.Module | None = None,
        *,
        keep: str = "h",
        h_scale: float = 1.0,
        scale: float = 1.0,
        plus_x: bool = False,
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.delta = delta
        self.gate = gate
        self.keep = keep
        self.h_scale = h_scale
        self.scale = scale
        self.plus_x = plus_x
        self.masked = masked

    def forward(self, x: Tensor, h: Tensor, u: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """``b n d -> b n d``, in the dtype of ``h``.

        ``u`` b n d_in is what the delta reads, H unless given; ``seen`` b n tells tokens from padding (None: no
        padding).

        T5 keeps its FFN output in float32 when the rest is in half precision: blocks compute in their own dtype, and
        what they return is cast to that of ``h``.
        """
        own = next((p.dtype for p in self.parameters()), h.dtype)
        kept = {"h": h, "x": x, "none": None}[self.keep]
        if kept is not None and self.h_scale != 1.0:
            kept = self.h_scale * kept
        if kept is None:
            kept = h.new_zeros(())
        change = h.new_zeros(())
        if self.delta is not None:
            u = (h if u is None else u).to(own)
            change = (self.delta(u, seen) if self.masked else self.delta(u)).to(h.dtype)
        out = kept if self.delta is None else kept + change
        if self.gate is not None:
            out = self.gate(x.to(own), kept.to(own), change.to(own), out.to(own), seen).to(h.dtype)
        if self.scale != 1.0:
            out = self.scale * out
        return out + x if self.plus_x else out
