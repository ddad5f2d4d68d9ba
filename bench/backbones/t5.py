"""T5 as a vision-language backbone."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

from bench.backbones.family import BackboneFamily, Joined, additive, extra_tokens, joint_mask, ones_before


def join(encoder: Any, ids: Tensor, mask: Tensor, visual: Tensor, prompt: Tensor | None = None) -> Joined:
    """Encode ``[prompt ; text ; visual]``: the relative position bias acts between prompt and text tokens, every pair
    with a visual token has none."""
    text = encoder.embed_tokens(ids)
    if prompt is not None:
        text, mask = torch.cat([prompt.to(text.dtype), text], dim=1), ones_before(mask, prompt)
    states = encoder.dropout(torch.cat([text, visual.to(text.dtype)], dim=1))
    length, count = text.shape[1], visual.shape[1]
    corner = encoder.block[0].layer[0].SelfAttention.compute_bias(length, length, device=text.device)
    bias = F.pad(corner, (0, count, 0, count)).to(states.dtype)
    mask = joint_mask(mask, visual)
    hidden = additive(mask, states)
    for block in encoder.block:
        states, *_ = block(states, hidden, bias)
    return encoder.dropout(encoder.final_layer_norm(states)), mask


def init_visual(module: nn.Module, config: Any) -> None:
    """torch's default for the linears, N(0, 1) for the order table (what transformers 4.2.1 left T5 with)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    nn.init.normal_(module.img_order_embedding.weight)  # type: ignore[union-attr, arg-type]


FAMILY = BackboneFamily(
    name="t5",
    model=T5ForConditionalGeneration,
    config=T5Config,
    norm=lambda config: T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon),
    join=join,
    init_visual=init_visual,
    new_row_std=1.0,
    added_tokens=(*extra_tokens("extra_id"), *extra_tokens("vis_extra_id")),
    prompt_ids=lambda config: [config.decoder_start_token_id],
    generation={"no_repeat_ngram_size": 0, "early_stopping": False, "length_penalty": 1.0, "min_length": 0},
    presets={
        "t5-small": {
            "vocab_size": 32128,
            "d_model": 512,
            "d_kv": 64,
            "d_ff": 2048,
            "num_layers": 6,
            "num_decoder_layers": 6,
            "num_heads": 8,
        },
        "t5-base": {
            "vocab_size": 32128,
            "d_model": 768,
            "d_kv": 64,
            "d_ff": 3072,
            "num_layers": 12,
            "num_decoder_layers": 12,
            "num_heads": 12,
        },
    },
)
