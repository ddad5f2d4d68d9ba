"""CLIP's modified ResNet-101: the grid features of VL-Adapter's and VL-PET's image-text tasks (49 x 2048).

The architecture is that of Radford et al. (2021), section 2.4: three convolutions and an average pooling instead of the
stem, average pooling before every convolution with a stride, and attention instead of the last pooling. transformers
has no such model. The names of the parameters are those of OpenAI's release, so that its files load as they are.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.encoders.encoder import Encoder, ImagePreprocessing, LoadedEncoder, file_digest
from bench.errors import UsageError

LAYERS = (3, 4, 23, 3)
WIDTH, PIXELS, COLUMNS = 64, 224, 512
ADVICE = "give the file of OpenAI's release (RN101.pt), or open_clip's weights of RN101, with --weights FILE"


class ResidualBlock(nn.Module):
    """A residual block of a 1x1, a 3x3 and a 1x1 convolution; where it has a stride, pictures are averaged before it.

    Args:
        inputs: channels that come in.
        width: channels within; four times as many go out.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            parts: list[tuple[str, nn.Module]] = [
                ("-1", nn.AvgPool2d(stride)),
                ("0", nn.Conv2d(inputs, outputs, 1, bias=False)),
                ("1", nn.BatchNorm2d(outputs)),
            ]
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(b, 4 width, h / stride, w / stride)`` of ``(b, inputs, h, w)``."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.avgpool(torch.relu(self.bn2(self.conv2(out))))
        return torch.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class AttentionPool(nn.Module):
    """Attention of the mean over all places to the mean and the places: one vector of a grid.

    Args:
        places: places of the grid.
        width: channels of the grid.
        heads: attention heads.
        outputs: columns of the vector.
    """

    def __init__(self, places: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(places + 1, width))
        self.k_proj, self.q_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, outputs)
        self._heads = heads

    def forward(self, grid: Tensor) -> Tensor:
        """Return ``(b, outputs)`` of ``(b, places, width)``."""
        tokens = torch.cat([grid.mean(1, keepdim=True), grid], 1) + self.positional_embedding
        query, key, value = (
            part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for part in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens))
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.c_proj(attended.transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    """CLIP's image tower of the ResNet family.

    Args:
        layers: blocks of each of the four stages.
        width: channels of the first stage; the last one has 32 times as many.
        pixels: side of the pictures.
        outputs: columns of the embedding.
    """

    def __init__(
        self, layers: tuple[int, ...] = LAYERS, width: int = WIDTH, pixels: int = PIXELS, outputs: int = COLUMNS
    ) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        channels = width
        self.stages: list[nn.Module] = []  # a plain list: the names of the parameters are those of the attributes
        for index, blocks in enumerate(layers):
            inner = width << index
            stage = []
            for block in range(blocks):
                stage.append(ResidualBlock(channels, inner, 2 if block == 0 and index > 0 else 1))
                channels = 4 * inner
            self.stages.append(nn.Sequential(*stage))
            self.add_module(f"layer{index + 1}", self.stages[-1])
        self.attnpool = AttentionPool((pixels // 32) ** 2, channels, channels // 64, outputs)

    def grid(self, pixels: Tensor) -> Tensor:
        """Return the last stage ``(b, places, 32 width)`` of ``(b, 3, h, w)``, line by line."""
        x = torch.relu(self.bn1(self.conv1(pixels)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(torch.relu(self.bn3(self.conv3(x))))
        for stage in self.stages:
            x = stage(x)
        return x.flatten(2).transpose(1, 2)

    def embedding(self, pixels: Tensor) -> Tensor:
        """Return the image embedding ``(b, outputs)`` of ``(b, 3, h, w)``."""
        return self.attnpool(self.grid(pixels))


def load_network(weights: Path) -> ModifiedResNet:
    """Return the network with the weights of a file: OpenAI's TorchScript archive, or a state dict (.pt, .safetensors).

    Raises:
        UsageError: it cannot be read, or has not the weights of an RN101.
    """
    try:
        state = _read_state(weights)
    except Exception as error:  # of a damaged file torch and safetensors raise almost anything
        raise UsageError(f"{weights}: not readable weights ({str(error).splitlines()[0]:.200}); {ADVICE}") from None
    tower = {name.removeprefix("visual."): value.float() for name, value in state.items() if name.startswith("visual.")}
    network = ModifiedResNet()
    expected = network.state_dict()
    if wrong := sorted(
        name
        for name in expected.keys() | tower.keys()
        if not name.endswith("num_batches_tracked")
        and (name not in expected or name not in tower or expected[name].shape != tower[name].shape)
    ):
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UsageError(f"{weights}: not the weights of an RN101 (visual.{wrong[0]}{more}); {ADVICE}")
    network.load_state_dict(tower, strict=False)
    return network.eval()


def _read_state(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        return torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        return content.get("state_dict", content)


def _load(weights: Path | None) -> LoadedEncoder:
    if weights is None:
        raise UsageError(f"encoder clip-rn101: its weights do not come with it; {ADVICE}")
    if not weights.is_file():
        raise UsageError(f"{weights}: no such file; {ADVICE}")
    network = load_network(weights)
    return LoadedEncoder("clip-rn101", f"{weights.name} {file_digest(weights)}", ImagePreprocessing(PIXELS), network)


ENCODER = Encoder("clip-rn101", "CLIP's ResNet-101: grids of 7 x 7 x 2048, as VL-Adapter extracts them", _load)
