"""CLIP's ViT-B/32: the frame features of VALUE's video-text tasks (512 columns)."""

from pathlib import Path

from bench.encoders.encoder import Encoder, LoadedEncoder

REPOSITORY = "openai/clip-vit-base-patch32"


def _load(weights: Path | None) -> LoadedEncoder:
    from bench.encoders.transformers_vision import load_pretrained

    return load_pretrained(REPOSITORY, weights, label="clip-vit-b32")


ENCODER = Encoder("clip-vit-b32", "CLIP's ViT-B/32: embeddings of 512 columns, as VALUE has them for frames", _load)
