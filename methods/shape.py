"""The sizes of a backbone that a method needs to know; read off an HF config, without torch."""

from dataclasses import dataclass
from typing import Any

from methods.errors import MethodError


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder-decoder: model width ``d``, FFN width ``ff``, width of queries and values ``inner``."""

    family: str  # "bart" | "t5"
    d: int
    ff: int
    heads: int
    inner: int
    encoder_layers: int
    decoder_layers: int
    vocab: int

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """Read the sizes of a ``BartConfig`` or ``T5Config``; MethodError for any other ``model_type``."""
        family = getattr(config, "model_type", None)
        if family == "bart":
            return cls(
                family="bart",
                d=config.d_model,
                ff=config.encoder_ffn_dim,
                heads=config.encoder_attention_heads,
                inner=config.d_model,
                encoder_layers=config.encoder_layers,
                decoder_layers=config.decoder_layers,
                vocab=config.vocab_size,
            )
        if family == "t5":
            return cls(
                family="t5",
                d=config.d_model,
                ff=config.d_ff,
                heads=config.num_heads,
                inner=config.num_heads * config.d_kv,
                encoder_layers=config.num_layers,
                decoder_layers=config.num_decoder_layers,
                vocab=config.vocab_size,
            )
        raise MethodError(f"methods attach to BART and T5 models; this config has model_type {family!r}")
