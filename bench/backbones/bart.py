"""BART as a vision-language backbone."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration

from bench.backbones.family import (
    BackboneFamily,
    JointEncoding,
    additive_mask,
    append_visual_mask,
    extra_tokens,
    prepend_prompt_mask,
)


def encode_joint(
    encoder: Any, input_ids: Tensor, attention_mask: Tensor, visual_tokens: Tensor, prompt: Tensor | None = None
) -> JointEncoding:
    """Encode ``[prompt ; text ; visual tokens]`` as the official VL-PET and VL-T5 code does.

    Only the text has positions, the visual tokens skip the embedding norm, and dropout falls on everything.
    """
    text = encoder.embed_tokens(input_ids) + encoder.embed_positions(input_ids)
    mask = attention_mask
    if prompt is not None:
        text, mask = torch.cat([prompt.to(text.dtype), text], dim=1), prepend_prompt_mask(mask, prompt)
    states = torch.cat([encoder.layernorm_embedding(text), visual_tokens.to(text.dtype)], dim=1)
    states = nn.functional.dropout(states, encoder.dropout, encoder.training)
    mask = append_visual_mask(mask, visual_tokens)
    attention_bias = additive_mask(mask, states)
    for layer in encoder.layers:
        states = layer(states, attention_bias)
    return states, mask


def init_projector(projector: nn.Module, config: Any) -> None:
    """Draw weights and the image-order table from N(0, init_std²), as BART's own modules are; biases start at 0."""
    for module in projector.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, config.init_std)
            nn.init.zeros_(module.bias)
    nn.init.normal_(projector.img_order_embedding.weight, 0.0, config.init_std)  # type: ignore[union-attr, arg-type]


def fault(config: Any) -> str:
    """Say why a configuration is not that of a BART: transformers reads some of these fields and ignores them."""
    for field in ("normalize_before", "add_final_layer_norm"):
        if getattr(config, field, False):
            return f"{field} is true: it has its norms where mBART has them, and transformers would ignore that"
    for field in ("attention_heads", "ffn_dim"):
        encoder, decoder = getattr(config, f"encoder_{field}"), getattr(config, f"decoder_{field}")
        if encoder != decoder:
            return f"encoder_{field} is {encoder} and decoder_{field} {decoder}; methods need equal ones"
    return ""


FAMILY = BackboneFamily(
    name="bart",
    model_class=BartForConditionalGeneration,
    config_class=BartConfig,
    build_norm=lambda config: nn.LayerNorm(config.d_model, eps=1e-5),
    encode_joint=encode_joint,
    init_projector=init_projector,
    new_row_std=0.02,
    added_tokens=(*extra_tokens("extra_id"), *extra_tokens("vis_extra_id")),
    extended_vocabulary=lambda rows: rows + 200,
    collapses_spaces=False,
    hub_owner="facebook/",
    decoder_prompt=lambda config: [config.decoder_start_token_id, config.bos_token_id],
    forced_end_with_beams=True,
    # As in the configuration of facebook/bart-base: repeated 3-grams are blocked (quirk BART-NGRAM).
    generation={"no_repeat_ngram_size": 3, "early_stopping": True, "length_penalty": 1.0, "min_length": 0},
    tokenizer_files=(("tokenizer.json",), ("vocab.json", "merges.txt")),
    optional_weights=("final_logits_bias", "lm_head.weight", "embed_tokens.weight"),
    fault=fault,
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
