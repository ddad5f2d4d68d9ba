"""BART as a vision-language backbone."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration

from bench.backbones.family import BackboneFamily, Joined, additive, extra_tokens, joint_mask, ones_before


def join(encoder: Any, ids: Tensor, mask: Tensor, visual: Tensor, prompt: Tensor | None = None) -> Joined:
    """Encode ``[prompt ; text ; visual]``: only text gets positions, only visual tokens no embedding norm, everything
    gets dropout."""
    text = encoder.embed_tokens(ids) + encoder.embed_positions(ids)
    if prompt is not None:
        text, mask = torch.cat([prompt.to(text.dtype), text], dim=1), ones_before(mask, prompt)
    states = torch.cat([encoder.layernorm_embedding(text), visual.to(text.dtype)], dim=1)
    states = nn.functional.dropout(states, encoder.dropout, encoder.training)
    mask = joint_mask(mask, visual)
    hidden = additive(mask, states)
    for layer in encoder.layers:
        states = layer(states, hidden)
    return states, mask


def init_visual(module: nn.Module, config: Any) -> None:
    """N(0, init_std^2) for weights and the order table, zero biases, neutral norms."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, config.init_std)
            nn.init.zeros_(part.bias)
    nn.init.normal_(module.img_order_embedding.weight, 0.0, config.init_std)  # type: ignore[union-attr, arg-type]


FAMILY = BackboneFamily(
    name="bart",
    model=BartForConditionalGeneration,
    config=BartConfig,
    norm=lambda config: nn.LayerNorm(config.d_model, eps=1e-5),
    join=join,
    init_visual=init_visual,
    new_row_std=0.02,
    added_tokens=(*extra_tokens("extra_id"), *extra_tokens("vis_extra_id")),
    prompt_ids=lambda config: [config.decoder_start_token_id, config.bos_token_id],
    # of facebook/bart-base; quirk BART-NGRAM
    generation={"no_repeat_ngram_size": 3, "early_stopping": True, "length_penalty": 1.0, "min_length": 0},
    presets={
        "bart-base": {
            "vocab_size": 50265,
            "d_model": 768,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
            "max_position_embeddings": 1024,
        },
        "bart-large": {
            "vocab_size": 50265,
            "d_model": 1024,
            "encoder_layers": 12,
            "decoder_layers": 12,
            "encoder_attention_heads": 16,
            "decoder_attention_heads": 16,
            "encoder_ffn_dim": 4096,
            "decoder_ffn_dim": 4096,
            "max_position_embeddings": 1024,
        },
    },
)
