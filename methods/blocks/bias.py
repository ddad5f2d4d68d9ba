"""A trained vector that does not depend on the input."""

from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory


class BiasBlock(nn.Module):
    """A bias of width ``d``, zero at the start."""

    def __init__(self, d: int, *, make: LayerFactory) -> None:
        super().__init__()
        self.vector = make.vector(d, "zeros")

    def forward(self, u: Tensor) -> Tensor:
        """Return the bias ``d``, which broadcasts over ``b n d``; ``u`` is not used."""
        return self.vector
