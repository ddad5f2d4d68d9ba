"""LoRA's low-rank map beside a frozen Linear (Hu et al., 2022)."""

from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory


class LoRABlock(nn.Module):
    """``scale · B · A · dropout(x)``: ``b n d_in -> b n d_out``.

    A (``r d_in``) starts Kaiming-uniform with a = √5 and B (``d_out r``) at zero, so that the map starts at zero.
    """

    def __init__(self, d_in: int, r: int, d_out: int, *, scale: float, dropout: float, make: LayerFactory) -> None:
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.a = make.linear(d_in, r, "kaiming", bias=False)
        self.b = make.linear(r, d_out, "zeros", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``b n d_in -> b n d_out``."""
        return self.b(self.a(self.dropout(x))) * self.scale
