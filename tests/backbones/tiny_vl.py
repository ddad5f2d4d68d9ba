"""Tiny vision-language models with random weights, none of them neutral."""

from typing import Any

import torch
from torch import Tensor
from transformers import BartConfig, T5Config

from bench import backbones

FAMILIES = ("bart", "t5")
WORDS, F = 60, 5


def config(family: str, **changes: Any) -> Any:
    if family == "bart":
        sizes = dict(
            vocab_size=WORDS,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=40,
        )
        return BartConfig(**(sizes | changes))
    sizes = dict(vocab_size=WORDS, d_model=32, d_kv=12, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    return T5Config(**(sizes | changes))


def model(family: str, *, std: float = 0.1, n_boxes: int = 36, **changes: Any) -> Any:
    """Build one in eval mode, every parameter moved by noise."""
    torch.manual_seed(0)
    built = backbones.build(config(family, **changes), feat_dim=F, n_boxes=n_boxes).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * std)
    return built


def text(family: str, rows: int = 2, length: int = 6) -> Tensor:
    """Random word ids, without special tokens or padding."""
    return torch.randint(5, WORDS - 20, (rows, length), generator=torch.Generator().manual_seed(1))


def features(rows: int = 2, count: int = 9, images: int = 1) -> Tensor:
    """Random features."""
    shape = (rows, count, F) if images == 1 else (rows, images, count, F)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))
