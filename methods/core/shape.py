"""The names of sites, and the sizes of a backbone that a method needs to know; no torch is imported.

A site in the layers is ``stack.block.point``: ``enc``/``dec``, then ``sa`` (self-attention), ``xa`` (cross-attention)
or ``ff``, then ``q k v o`` (the projections), ``kv`` (the encoder states that enter cross-attention), ``up`` and
``mid`` (the FFN before and after its activation), ``out`` (what the block gives to dropout and residual) or ``ln`` (the
block's norm). ``enc.end.ln``/``dec.end.ln`` are the norms of a stack outside its layers, ``lm.head`` the output layer,
``vis.ln`` the norms of a wrapper's visual projector.
"""

from dataclasses import dataclass, field
from typing import Any

from methods.core.errors import MethodError

_POINTS = {"sa": ("q", "k", "v", "o", "out", "ln"), "ff": ("up", "mid", "out", "ln")}
_POINTS["xa"] = ("kv", *_POINTS["sa"])
LAYER_SITES = tuple(
    f"{stack}.{block}.{point}"
    for stack, blocks in (("enc", ("sa", "ff")), ("dec", ("sa", "xa", "ff")))
    for block in blocks
    for point in _POINTS[block]
)
SITES = (*LAYER_SITES, "enc.end.ln", "dec.end.ln", "lm.head", "vis.ln")


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder-decoder.

    Attributes:
        family: backbone family, "bart" or "t5".
        d: width of the model.
        ff: width of the FFN's middle.
        heads: attention heads.
        inner: width of queries, keys and values, all heads together.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        vocab: size of the vocabulary.
        columns: columns of the visual features; None where they are not known. It is no size of the backbone and not in
            its text form, of which fingerprints are made.
    """

    family: str
    d: int
    ff: int
    heads: int
    inner: int
    encoder_layers: int
    decoder_layers: int
    vocab: int
    columns: int | None = field(default=None, repr=False)

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """Read the sizes off a ``BartConfig`` or ``T5Config``; raises MethodError for any other ``model_type``."""
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

    def widths(self, site: str) -> tuple[int, int]:
        """Return the widths of X and H at a site.

        >>> Shape("t5", d=32, ff=48, heads=4, inner=64, encoder_layers=2, decoder_layers=2, vocab=9).widths("dec.xa.v")
        (32, 64)
        """
        point = site.split(".")[-1]
        if point in ("q", "k", "v"):
            return self.d, self.inner
        if point == "o":
            return self.inner, self.d
        if point in ("up", "mid"):
            return self.d, self.ff
        return self.d, self.vocab if site == "lm.head" else self.d

    def layers(self, site: str) -> int:
        """Return the number of layers that have this site; 1 for a site outside of the layers."""
        if site not in LAYER_SITES:
            return 1
        return self.encoder_layers if site.startswith("enc.") else self.decoder_layers
