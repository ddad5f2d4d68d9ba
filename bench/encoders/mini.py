"""The encoder of the miniature suite: a convolutional network of 0.3 M parameters that was pretrained on pictures only.

:mod:`bench.mini.pretrain_encoder` makes it: it learns to restore the drawing from a picture of it, and sees neither
words nor labels.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from bench import mini
from bench.encoders.encoder import Encoder, ImagePreprocessing, LoadedEncoder, file_digest
from bench.errors import UsageError
from bench.mini.world import FEATURE_COLUMNS, PIXELS, SIDE

CHANNELS = (24, 48, 64, 96, 128)  # of the five stages, each of which halves the picture: 96 pixels become 3
GROUPS = 8
POSITION_STD = 0.5  # of the position embedding in the beginning
PREPROCESSING = ImagePreprocessing(PIXELS, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
WEIGHTS = Path(mini.__file__).parent / "encoder" / "model.safetensors"


class MiniatureEncoder(nn.Module):
    """Five convolutions with a stride of two; a linear map of each place, and one of all places together.

    Features of a place have an embedding of the position added, as the tokens of a vision transformer have.

    Args:
        columns: columns of the features, which are normalised to mean 0 and variance 1.
    """

    def __init__(self, columns: int = FEATURE_COLUMNS) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for inputs, outputs in zip((3, *CHANNELS[:-1]), CHANNELS, strict=True):
            stages += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(GROUPS, outputs), nn.GELU()]
        self.stages = nn.Sequential(*stages)
        self.place_head = nn.Linear(CHANNELS[-1], columns)
        self.position = nn.Parameter(POSITION_STD * torch.randn(SIDE**2, columns))
        self.picture_head = nn.Linear(CHANNELS[-1] * SIDE**2, columns)
        self.norm = nn.LayerNorm(columns, elementwise_affine=False)

    def grid(self, pixels: Tensor) -> Tensor:
        """Return ``(b, 9, columns)`` of ``(b, 3, 96, 96)``, a row for each cell of the world."""
        return self.grid_of(self.stages(pixels))

    def grid_of(self, states: Tensor) -> Tensor:
        """Return ``(b, 9, columns)`` of the last stage ``(b, 128, 3, 3)``."""
        return self.norm(self.place_head(states.flatten(2).transpose(1, 2)) + self.position)

    def embedding_of(self, states: Tensor) -> Tensor:
        """Return ``(b, columns)`` of the last stage ``(b, 128, 3, 3)``."""
        return self.norm(self.picture_head(states.flatten(1)))

    def embedding(self, pixels: Tensor) -> Tensor:
        """Return ``(b, columns)`` of ``(b, 3, 96, 96)``."""
        return self.embedding_of(self.stages(pixels))


def _load(weights: Path | None) -> LoadedEncoder:
    from safetensors.torch import load_file

    path = weights or WEIGHTS
    try:
        network = MiniatureEncoder()
        network.load_state_dict(load_file(path))
    except Exception as error:  # of a damaged file safetensors raises almost anything
        reason = f"{str(error).splitlines()[0]:.200}"
        raise UsageError(
            f"{path}: not the weights of the miniature encoder ({reason}); make them with `bench mini pretrain encoder`"
        ) from None
    return LoadedEncoder("mini", file_digest(path), PREPROCESSING, network.eval())


ENCODER = Encoder("mini", "the miniature suite's: pretrained on synthetic pictures, of no use for others", _load)
