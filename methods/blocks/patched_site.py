"""What acts at one site of one layer: delta, gate and scale, in this order."""

from torch import Tensor, nn

from methods.core.recompute import recomputed

#: modules that give the same for the same inputs (and task); those of a method may keep something of a forward pass
BLOCKS = ("methods.blocks.", "torch.nn.")


class PatchedSite(nn.Module):
    """``H' = scale · G ⊙ (h_scale · H + ΔH)``; a missing delta is ΔH = 0, a missing gate G = 1.

    With ``keep`` "x" X stands in the place of H, with "none" 0 does. ``plus_x`` adds X to the result. With
    ``masked_delta`` the delta is called with the token mask as its second argument.
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
        masked_delta: bool = False,
    ) -> None:
        super().__init__()
        self.delta = delta
        self.gate = gate
        self.keep = keep
        self.h_scale = h_scale
        self.scale = scale
        self.plus_x = plus_x
        self.masked_delta = masked_delta
        self.computes_alike = all(type(part).__module__.startswith(BLOCKS) for part in self.modules())

    def forward(self, x: Tensor, h: Tensor, u: Tensor | None = None, token_mask: Tensor | None = None) -> Tensor:
        """Return H', ``b n d``, in the dtype of ``h``.

        A backbone in half precision may keep some of its states in float32. The delta and the gate compute in the dtype
        of their own parameters; what they return is cast to that of ``h``.

        Args:
            x: X, ``b n d_x``.
            h: H, ``b n d``.
            u: what the delta reads, ``b n d_in``; H where it is None.
            token_mask: ``b n`` bool, False where a position is padding; None where there is no padding.
        """
        if self.gate is None or not self.computes_alike:
            return self._changed(x, h, u, token_mask)
        return recomputed(self._changed, h, x, h, u, token_mask)

    def _changed(self, x: Tensor, h: Tensor, u: Tensor | None, token_mask: Tensor | None) -> Tensor:
        dtype = next((p.dtype for p in self.parameters()), h.dtype)
        base = {"h": h, "x": x, "none": None}[self.keep]
        if base is not None and self.h_scale != 1.0:
            base = self.h_scale * base
        if base is None:
            base = h.new_zeros(())
        change = h.new_zeros(())
        if self.delta is not None:
            inputs = ((h if u is None else u).to(dtype), *([token_mask] if self.masked_delta else []))
            again = self.gate is None and self.computes_alike
            change = (recomputed(self.delta, h, *inputs) if again else self.delta(*inputs)).to(h.dtype)
        out = base if self.delta is None else base + change
        if self.gate is not None:
            out = self.gate(x.to(dtype), base.to(dtype), change.to(dtype), out.to(dtype), token_mask).to(h.dtype)
        if self.scale != 1.0:
            out = self.scale * out
        return out + x if self.plus_x else out
