"""What an image encoder is: preprocessing, and a network with grid features and one embedding per picture."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.float32]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Preprocessing(Protocol):
    """Makes the pixels that a network reads of a picture; other processes call it, so it can be pickled."""

    def __call__(self, picture: Image.Image) -> Pixels:
        """Return ``(3, height, width)`` in float32 of an RGB picture of any size."""

    def facts(self) -> Mapping[str, Any]:
        """Return what it does, as plain data that stand in the manifest of the features."""


@dataclass(frozen=True)
class ImagePreprocessing:
    """Resizes a picture to a square with Pillow whatever its proportions, as the published extractor of grid features
    does, scales it to 0 ... 1, and normalises its channels.

    Attributes:
        size: pixels of a side.
        mean: subtracted from each channel.
        std: each channel is divided by it.
    """

    size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __call__(self, picture: Image.Image) -> Pixels:
        resized = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return np.ascontiguousarray((pixels - mean) / std)

    def facts(self) -> Mapping[str, Any]:
        return {"resampling": "bicubic, without regard to proportions", **asdict(self)}


class Network(Protocol):
    """The computing part of an encoder: a module in eval mode."""

    def grid(self, pixels: "Tensor") -> "Tensor":
        """Return ``(b, rows, columns)`` of pixels ``(b, 3, h, w)``: a row for each place, line by line."""

    def embedding(self, pixels: "Tensor") -> "Tensor":
        """Return ``(b, columns)`` of pixels ``(b, 3, h, w)``: one vector for the whole picture."""

    def to(self, device: Any) -> Any:
        """Move to a device."""


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder with its weights.

    Attributes:
        name: its name.
        weights: where the weights come from, and a digest of them: what tells two encoders of one name apart.
        preprocessing: makes pixels of pictures.
        network: makes features of pixels.
    """

    name: str
    weights: str
    preprocessing: Preprocessing
    network: Network


@dataclass(frozen=True)
class Encoder:
    """A registered encoder.

    Attributes:
        name: the word for ``--encoder``.
        summary: what it is, and what it is for, in one line.
        load: loads it; given the file or folder of its weights, or None.
    """

    name: str
    summary: str
    load: Callable[[Path | None], LoadedEncoder]


def file_digest(*paths: Path) -> str:
    """Return the beginning of the SHA-256 of the content of files."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()[:12]
