"""The cache of beam search, in which the beams of an example share what depends on the encoder alone."""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache


class EncoderStatesLayer(DynamicLayer):
    """Keys and values ``(b beams, h, n, e)`` of the encoder's states in one layer of the decoder."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Do nothing: beams change places within their example only, and there all have the same keys and values."""


def beam_cache(lm: Any, outputs: Any, mask: Tensor, beams: int) -> EncoderDecoderCache:
    """Return a cache for HF ``generate`` that holds the keys and values of the encoder's states.

    Left to itself, ``generate`` computes them for every beam, and at every step puts copies of them into the order of
    the beams.

    Args:
        lm: the HF model; a method in it acts as in ``generate``.
        outputs: the encoder's output, with states ``(b, n, d)``.
        mask: ``(b, n)``, what the decoder may attend to.
        beams: number of beams.
    """
    once = EncoderDecoderCache(DynamicCache(), DynamicCache())
    start = mask.new_full((len(mask), 1), lm.config.decoder_start_token_id)
    lm(attention_mask=mask, encoder_outputs=outputs, decoder_input_ids=start, past_key_values=once, use_cache=True)
    layers: Any = once.cross_attention_cache.layers
    shared = DynamicCache()
    for layer in layers:
        of_beams = EncoderStatesLayer()
        if layer.is_initialized:
            of_beams.update(*(states.repeat_interleave(beams, dim=0) for states in (layer.keys, layer.values)))
        shared.layers.append(of_beams)
    return EncoderDecoderCache(DynamicCache(), shared)
