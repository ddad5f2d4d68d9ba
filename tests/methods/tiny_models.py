"""Tiny backbones whose every parameter is perturbed, alone and in the vision-language wrapper."""

import copy
from functools import cache

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

import methods
from bench import backbones
from methods import Shape

SHAPE = Shape("t5", d=32, ff=48, heads=4, inner=48, encoder_layers=2, decoder_layers=2, vocab=60)
FAMILIES = ("bart", "t5")
VOCAB = 60
FEATURES = 24
ONE_TASK = ("vqa",)
BARE = [name for name in methods.names() if not methods.get(name).spec(SHAPE).needs_wrapper]
"""Methods that a language model without a wrapper can have."""


def config(family: str, **changes):
    if family == "bart":
        sizes = dict(
            vocab_size=VOCAB, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=40, dropout=0.0,
        )  # fmt: skip
        return BartConfig(**(sizes | changes))
    sizes = dict(vocab_size=VOCAB, d_model=32, d_kv=12, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)
    return T5Config(**(sizes | dict(decoder_start_token_id=0) | changes))


def language_model(family: str, **changes):
    """A tiny random BART or T5 in eval mode. T5's query width (48) differs from its width (32)."""
    torch.manual_seed(0)
    cls = BartForConditionalGeneration if family == "bart" else T5ForConditionalGeneration
    model = cls(config(family, **changes)).eval()
    perturb(model, 0.05)
    return model


def perturb(module: nn.Module, std: float) -> None:
    """Move every parameter, so that nothing is neutral."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


def attach_moved(model: nn.Module, method, std: float):
    """Attach a method and move every new trained parameter, wherever it stands, by the same numbers in any order of
    tests."""
    torch.manual_seed(1)
    handle = methods.attach(model, method)
    with torch.no_grad():
        for parameter in handle.added().values():
            parameter.add_(torch.randn_like(parameter) * std)
    return handle


def wrapper(family: str, **changes):
    """A tiny vision-language model in eval mode, none of its parameters neutral."""
    model = copy.deepcopy(_built(family, **changes))
    torch.manual_seed(0)
    return model


@cache
def _built(family: str, **changes):
    torch.manual_seed(0)
    model = backbones.build(config(family, **changes), feat_dim=FEATURES).eval()
    perturb(model, 0.05)
    return model


def batch(n: int = 3, length: int = 7, target: int = 5, visual: int = 4) -> dict[str, Tensor]:
    """Inputs of a wrapper."""
    g = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(4, VOCAB, (n, length), generator=g),
        "vis_feats": torch.randn(n, visual, FEATURES, generator=g),
        "boxes": torch.rand(n, visual, 4, generator=g),
        "labels": torch.randint(4, VOCAB, (n, target), generator=g),
    }


def text(n: int = 3, length: int = 7, target: int = 5) -> dict[str, Tensor]:
    """Inputs of a bare language model."""
    return {key: value for key, value in batch(n, length, target).items() if key in ("input_ids", "labels")}
