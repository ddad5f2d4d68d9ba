"""Vision-language wrappers over the unmodified BART and T5 of transformers.

>>> from bench import backbones
>>> backbones.shape("bart-base").d
768

A backbone is one file in this folder: a family (how text and visual tokens are joined, what its layers are called) and
its named presets.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.backbones.builder import build, family_of, names, shape, tokenizer, version
    from bench.backbones.decode import decide, generation_arguments
    from bench.backbones.model import VLModel, VLOutput
    from bench.backbones.tokenization import Tokenizer

_HOME = {
    "build": "builder",
    "names": "builder",
    "shape": "builder",
    "tokenizer": "builder",
    "family_of": "builder",
    "version": "builder",
    "decide": "decode",
    "generation_arguments": "decode",
    "VLModel": "model",
    "VLOutput": "model",
    "Tokenizer": "tokenization",
}
__all__ = [
    "Tokenizer",
    "VLModel",
    "VLOutput",
    "build",
    "decide",
    "family_of",
    "generation_arguments",
    "names",
    "shape",
    "tokenizer",
    "version",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bench.backbones' has no attribute {name!r}")
    return getattr(import_module(f"bench.backbones.{_HOME[name]}"), name)
