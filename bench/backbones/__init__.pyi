from .builder import (
    build,
    canonical_name,
    family_of,
    folders,
    has_random_weights,
    names,
    published_name,
    require_checkpoint,
    require_weights,
    shape,
    tokenizer,
    version,
)
from .compiled_layers import compile_layers, require_compiler
from .decode import decide, generation_arguments
from .frozen_weights import hold_in_bf16
from .model import VLModel, VLOutput
from .tokenization import Tokenizer

__all__ = [
    "Tokenizer",
    "VLModel",
    "VLOutput",
    "build",
    "canonical_name",
    "compile_layers",
    "decide",
    "family_of",
    "folders",
    "generation_arguments",
    "has_random_weights",
    "hold_in_bf16",
    "names",
    "published_name",
    "require_checkpoint",
    "require_compiler",
    "require_weights",
    "shape",
    "tokenizer",
    "version",
]
