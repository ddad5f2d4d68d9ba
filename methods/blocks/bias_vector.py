"""A trained vector, the same for every token."""

from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory


class Vector(nn.Module):
    """A bias of width ``d`` that starts at zero."""

    def __init__(self, d: int, *, make: LayerFactory) -> None:
        super().__init__()
        self.vector = make.vector(d, "zeros")

    def forward(self, u: Tensor) -> Tensor:
        """``b n d_in -> d``."""
        return self.vector
