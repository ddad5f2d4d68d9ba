"""The image encoders that ``bench data extract`` computes features with, one file each.

A new encoder is a new module here that defines ``ENCODER``, or an entry point ``vlpet_bench.encoders``. Every other
name is that of a vision model of transformers: a folder, or a repository of the Hugging Face hub.

>>> from bench import encoders
>>> encoders.names()
['clip-rn101', 'clip-vit-b32', 'mini']
"""

from functools import lru_cache
from pathlib import Path

from bench.encoders.encoder import Encoder, ImagePreprocessing, LoadedEncoder
from bench.plugins import Registry, discover

__all__ = ["Encoder", "ImagePreprocessing", "LoadedEncoder", "load", "names"]


@lru_cache
def _registry() -> Registry[Encoder]:
    return discover(Encoder, __name__, __path__, "ENCODER", "vlpet_bench.encoders", order=lambda encoder: encoder.name)


def names() -> list[str]:
    """Return the names of all encoders but those of the hub."""
    return list(_registry().entries)


def load(name: str, weights: Path | None = None) -> LoadedEncoder:
    """Load an encoder.

    Args:
        name: one of :func:`names`, or a folder or hub repository with a vision model of transformers.
        weights: a file or folder with its weights, where they are not shipped or found on the hub.

    Raises:
        UsageError: there is no such encoder, or its weights are missing or are not those of this architecture.
    """
    if name in _registry().entries:
        return _registry().entries[name].load(weights)
    from bench.encoders.transformers_vision import load_pretrained

    return load_pretrained(name, weights)
