"""Tokenisers as the official code uses them.

Extra tokens have fixed ids, spaces are kept (BART) or collapsed (T5), and decoded text is cleaned up as transformers
4.2.1 did.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.backbones.family import BackboneFamily
from bench.backbones.word_pieces import Encoded, WordPieces
from bench.errors import UsageError

_CLEAN_UP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"))
_CLITICS = (" n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class Tokenizer:
    """An HF tokeniser with the official extra tokens. Make one with :meth:`wrap`.

    Attributes:
        hf_tokenizer: the tokeniser of transformers.
        collapses_spaces: whether runs of whitespace become one space before encoding.
        pad_id: id of the padding token.
        vocab_size: number of tokens, the added ones included.
        positions: the number of positions that the backbone has for a text; None for any number.
    """

    hf_tokenizer: Any
    collapses_spaces: bool
    pad_id: int
    vocab_size: int
    positions: int | None = None

    @classmethod
    def wrap(cls, hf_tokenizer: Any, family: BackboneFamily) -> "Tokenizer":
        """Wrap a tokeniser of transformers after adding those of the family's special tokens that it lacks.

        Raises:
            UsageError: the visual tokens did not get the last hundred ids in the official order. The object order of
                the visual embedding is counted from the end of the word embedding, so other ids would give other
                results.
        """
        vocabulary = hf_tokenizer.get_vocab()
        missing = [token for token in family.added_tokens if token not in vocabulary]
        hf_tokenizer.add_tokens(missing, special_tokens=True)
        size = len(hf_tokenizer)
        ends = hf_tokenizer.convert_tokens_to_ids(["<vis_extra_id_99>", "<vis_extra_id_0>"])
        if ends != [size - 100, size - 1]:
            raise UsageError(
                f"<vis_extra_id_99> and _0 have ids {ends}, not {[size - 100, size - 1]}: other tokeniser layout"
            )
        return cls(
            hf_tokenizer=hf_tokenizer,
            collapses_spaces=family.collapses_spaces,
            pad_id=hf_tokenizer.pad_token_id,
            vocab_size=size,
        )

    def encode(self, text: str, max_length: int | None) -> list[int]:
        """Return the ids of a text with special tokens.

        A text of more than ``max_length`` ids loses its last words and keeps the special tokens; None is no limit.
        """
        normalised = self._normalise_spaces(text)
        return self.hf_tokenizer(normalised, truncation=max_length is not None, max_length=max_length)["input_ids"]

    def encode_all(self, texts: Sequence[str], max_length: int | None) -> Encoded:
        """Return what :meth:`encode` does for each of many texts, as one array, with the number of ids of each."""
        return self._pieces.encode_all([self._normalise_spaces(text) for text in texts], max_length)

    @property
    def digest(self) -> str | None:
        """A digest of everything that ids depend on beside the text; None where the tokeniser is not a fast one."""
        settings = self._pieces.settings
        return settings and hashlib.sha256(f"{settings}{self.collapses_spaces}".encode()).hexdigest()

    @cached_property
    def _pieces(self) -> WordPieces:
        return WordPieces(self.hf_tokenizer)

    def encode_bare(self, text: str) -> list[int]:
        """Return the ids of a text without special tokens."""
        return self.hf_tokenizer(self._normalise_spaces(text), add_special_tokens=False)["input_ids"]

    def first_token_id(self, text: str) -> int:
        """Return the first id of a text that is encoded alone, without special tokens."""
        return self.encode_bare(text)[0]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids: without special tokens, and without the spaces before punctuation and clitics."""
        text = self.hf_tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for spaced, joined in _CLEAN_UP:
            text = text.replace(spaced, joined)
        for clitic in _CLITICS:
            text = text.replace(clitic, clitic[1:])
        return text

    def _normalise_spaces(self, text: str) -> str:
        # The T5 tokeniser of transformers 4.2.1 split on whitespace first; BART's keeps every space (quirk
        # TRAIL-SPACE).
        return " ".join(text.split()) if self.collapses_spaces else text
