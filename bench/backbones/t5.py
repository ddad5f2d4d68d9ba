"""T5 as a vision-language backbone."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

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

    T5's relative position bias acts between prompt and text tokens; a pair with a visual token in it has none.
    """
    text = encoder.embed_tokens(input_ids)
    mask = attention_mask
    if prompt is not None:
        text, mask = torch.cat([prompt.to(text.dtype), text], dim=1), prepend_prompt_mask(mask, prompt)
    states = encoder.dropout(torch.cat([text, visual_tokens.to(text.dtype)], dim=1))
    length, count = text.shape[1], visual_tokens.shape[1]
    text_bias = encoder.block[0].layer[0].SelfAttention.compute_bias(length, length, device=text.device)
    position_bias = F.pad(text_bias, (0, count, 0, count)).to(states.dtype)
    mask = append_visual_mask(mask, visual_tokens)
    attention_bias = additive_mask(mask, states)
    for block in encoder.block:
        states, *_ = block(states, attention_bias, position_bias)
    return encoder.dropout(encoder.final_layer_norm(states)), mask


def init_projector(projector: nn.Module, config: Any) -> None:
    """Draw Linears by torch's default and the image-order table from N(0, 1).

    These are the values with which transformers 4.2.1 leaves modules that T5's own initialisation does not know.
    """
    for module in projector.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    nn.init.normal_(projector.img_order_embedding.weight)  # type: ignore[union-attr, arg-type]


def fault(config: Any) -> str:
    """Say why a configuration of T5's type is no backbone: ByT5 has T5's layers and no words."""
    if getattr(config, "tokenizer_class", None) == "ByT5Tokenizer":
        return "ByT5 reads bytes, and the official limits of 20 tokens would cut a text after 20 characters"
    return ""


FAMILY = BackboneFamily(
    name="t5",
    model_class=T5ForConditionalGeneration,
    config_class=T5Config,
    build_norm=lambda config: T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon),
    encode_joint=encode_joint,
    init_projector=init_projector,
    new_row_std=1.0,
    added_tokens=(*extra_tokens("extra_id"), *extra_tokens("vis_extra_id")),
    # Of T5's 32128 rows 28 belong to no token; its 32100 tokens hold the <extra_id_N> already.
    extended_vocabulary=lambda rows: rows - 28 + 100,
    collapses_spaces=True,
    decoder_prompt=lambda config: [config.decoder_start_token_id],
    forced_end_with_beams=False,
    generation={"no_repeat_ngram_size": 0, "early_stopping": False, "length_penalty": 1.0, "min_length": 0},
    tokenizer_files=(("tokenizer.json",), ("spiece.model",)),
    optional_weights=("embed_tokens.weight",),
    hub_owner="google-t5/",
    # T5 1.1 and Flan-T5: transformers calls every T5 tied, and keeps what their files say in this field.
    has_own_head=lambda config: not getattr(config, "scale_decoder_outputs", True),
    fault=fault,
    presets={
        "t5-small": {
            "vocab_size": 32128,
            "d_model": 512,
            "d_kv": 64,
            "d_ff": 2048,
            "num_layers": 6,
            "num_decoder_layers": 6,
            "num_heads": 8,
            "decoder_start_token_id": 0,
        },
        "t5-base": {
            "vocab_size": 32128,
            "d_model": 768,
            "d_kv": 64,
            "d_ff": 3072,
            "num_layers": 12,
            "num_decoder_layers": 12,
            "num_heads": 12,
            "decoder_start_token_id": 0,
        },
    },
)
