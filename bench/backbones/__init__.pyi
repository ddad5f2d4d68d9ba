from .builder import build, canonical_name, family_of, folders, names, require_checkpoint, shape, tokenizer, version
from .decode import decide, generation_arguments
from .model import VLModel, VLOutput
from .tokenization import Tokenizer

__all__ = [
    "Tokenizer",
    "VLModel",
    "VLOutput",
    "build",
    "canonical_name",
    "decide",
    "family_of",
    "folders",
    "generation_arguments",
    "names",
    "require_checkpoint",
    "shape",
    "tokenizer",
    "version",
]
