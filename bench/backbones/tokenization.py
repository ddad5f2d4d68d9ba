"""Tokenisers as the official code uses them: extra tokens at fixed ids, spaces kept (BART) or collapsed (T5), clean-up
after decoding."""

from dataclasses import dataclass
from typing import Any

from bench.backbones.family import BackboneFamily
from bench.errors import UsageError

_CLEAN_UP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"))
_CLITICS = (" n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class Tokenizer:
    """A tokeniser and what the model needs to know of it. Make it with :meth:`of`."""

    hf: Any
    family: str
    pad: int
    eos: int
    vocab_size: int

    @classmethod
    def of(cls, hf: Any, family: BackboneFamily) -> "Tokenizer":
        """Wrap an HF tokeniser after adding the special tokens that it lacks.

        Raises:
            UsageError: the added tokens did not get the last ids in the official order, which the visual tokens rely
                on.
        """
        known = hf.get_vocab()
        hf.add_tokens([t for t in family.added_tokens if t not in known], special_tokens=True)
        size = len(hf)
        last = hf.convert_tokens_to_ids(["<vis_extra_id_99>", "<vis_extra_id_0>"])
        if last != [size - 100, size - 1]:
            raise UsageError(
                f"<vis_extra_id_99> and _0 have ids {last}, not {[size - 100, size - 1]}: other tokeniser layout"
            )
        return cls(hf, family.name, hf.pad_token_id, hf.eos_token_id, size)

    def encode(self, text: str, limit: int | None) -> list[int]:
        """Return ids with special tokens, cut on the right to ``limit`` ids with the special tokens kept."""
        return self.hf(self._spaced(text), truncation=limit is not None, max_length=limit)["input_ids"]

    def pieces(self, text: str) -> list[int]:
        """Return ids without special tokens."""
        return self.hf(self._spaced(text), add_special_tokens=False)["input_ids"]

    def first_id(self, text: str) -> int:
        """Return the first id of a text encoded alone, without special tokens."""
        return self.pieces(text)[0]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids without special tokens, with spaces before punctuation and clitics removed."""
        text = self.hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for before, after in _CLEAN_UP:
            text = text.replace(before, after)
        for clitic in _CLITICS:
            text = text.replace(clitic, clitic[1:])
        return text

    def _spaced(self, text: str) -> str:
        # The T5 tokeniser of transformers 4.2.1 split on whitespace first; BART's keeps every space (quirk
        # TRAIL-SPACE).
        return " ".join(text.split()) if self.family == "t5" else text
