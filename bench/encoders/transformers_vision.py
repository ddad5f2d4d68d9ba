"""Vision models of transformers as encoders: CLIP's ViT, and any other that has a grid or an embedding of a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bench.encoders.encoder import LoadedEncoder, Pixels, file_digest
from bench.errors import UsageError


@dataclass(frozen=True)
class ProcessorPreprocessing:
    """The image processor that belongs to a model of transformers."""

    processor: Any

    def __call__(self, picture: Image.Image) -> Pixels:
        pixels = self.processor(picture, return_tensors="np")["pixel_values"][0]
        return np.ascontiguousarray(pixels, dtype=np.float32)

    def facts(self) -> Mapping[str, Any]:
        """Return the settings of the processor that are plain values."""
        return {k: v for k, v in self.processor.to_dict().items() if isinstance(v, str | int | float | list | dict)}


class VisionModel(nn.Module):
    """A vision model with the interface of :class:`bench.encoders.encoder.Network`.

    Args:
        model: a model of transformers that reads ``pixel_values``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def grid(self, pixels: Tensor) -> Tensor:
        """Return the last hidden states of the places ``(b, rows, columns)``, without tokens that are no place."""
        states = self.model(pixel_values=pixels).last_hidden_state
        if states.dim() == 4:  # a convolutional network: (b, columns, lines, places)
            return states.flatten(2).transpose(1, 2)
        patch = self.model.config.patch_size
        rows = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
        return states[:, -rows:]  # class and register tokens come first

    def embedding(self, pixels: Tensor) -> Tensor:
        """Return the projected embedding ``(b, columns)`` where the model has one, else its pooled output."""
        output = self.model(pixel_values=pixels)
        vector = getattr(output, "image_embeds", None)
        vector = output.pooler_output if vector is None else vector
        return vector.flatten(1)


def load_pretrained(name: str, weights: Path | None = None, *, label: str = "") -> LoadedEncoder:
    """Load a vision model and its image processor.

    Args:
        name: a folder, or a repository of the hub with or without ``@REVISION``.
        weights: a folder to load from in place of ``name``.
        label: what the encoder is called; ``name`` by default.

    Raises:
        UsageError: there is no such folder or repository, or it has no vision model with an image processor.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPVisionModelWithProjection

    source, _, revision = (str(weights), "", "") if weights else name.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        kind = CLIPVisionModelWithProjection if config.model_type in ("clip", "clip_vision_model") else AutoModel
        model = kind.from_pretrained(source, **options, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(source, **options)
    except Exception as error:  # transformers raises many kinds for what is not there
        raise UsageError(
            f"encoder {name!r}: no vision model of transformers in {source!r} ({str(error).splitlines()[0]:.200}); "
            "name a folder or a repository with a model and an image processor, or one of those in `bench data --help`"
        ) from None
    files = sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else []
    digest = file_digest(*files) if files else getattr(config, "_commit_hash", None) or revision or "unknown revision"
    network = VisionModel(model).eval()
    return LoadedEncoder(label or name, f"{source} {digest}", ProcessorPreprocessing(processor), network)
