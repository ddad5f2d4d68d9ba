"""The ids of many texts in one array, kept in the cache folder by the content of texts and tokeniser."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.data.mapped_arrays import read_verified, write_verified
from bench.data.roots import cache_folder
from bench.data.strings import Strings

EDITION = 1
CACHED_TEXTS = 20_000  # ids of fewer texts are made each time
CHUNK = 50_000  # texts that are lists of ids at once


class TextEncoder(Protocol):
    """What batches need of a tokeniser: its padding id, and the encoding of texts."""

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""

    @property
    def positions(self) -> int | None:
        """The largest number of ids of a text that the model can read; None for any number."""

    @property
    def digest(self) -> str | None:
        """A digest of everything that ids depend on beside the text; None where that is not certain."""

    def encode(self, text: str, max_length: int | None) -> list[int]:
        """Return the ids of a text with special tokens, at most ``max_length``."""

    def encode_all(self, texts: Sequence[str], max_length: int | None) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of texts with special tokens, at most ``max_length`` of each, and the number of each."""


@dataclass(frozen=True)
class TokenIds:
    """The ids of texts.

    Attributes:
        ids: int32, those of all texts, one behind the other.
        begins: ``(n + 1,)``, where each text begins.
        cut: the number of texts that were cut to the positions of the model.
    """

    ids: NDArray[np.int32]
    begins: NDArray[np.int64]
    cut: int

    @classmethod
    def of(cls, ids: Sequence[int], cut: int = 0) -> "TokenIds":
        """Return the ids of one text."""
        return cls(np.array(ids, np.int32), np.array([0, len(ids)]), cut)

    @classmethod
    def join(cls, parts: Sequence["TokenIds"]) -> "TokenIds":
        """Put the ids of more and more texts one behind the other."""
        begins = np.zeros(1 + sum(map(len, parts)), np.int64)
        np.cumsum(np.concatenate([np.diff(part.begins) for part in parts]), out=begins[1:])
        return cls(np.concatenate([part.ids for part in parts]), begins, sum(part.cut for part in parts))

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.ids[self.begins[index] : self.begins[index + 1]]

    def __len__(self) -> int:
        return len(self.begins) - 1

    def length(self, index: int) -> int:
        """Return the number of ids of a text."""
        return int(self.begins[index + 1] - self.begins[index])


def token_ids(
    texts: Sequence[str], encoder: TextEncoder, limit: int | None, around: tuple[str, str] = ("", "")
) -> TokenIds:
    """Return the ids of texts, from the cache folder where many texts were encoded before.

    Args:
        texts: distinct texts.
        encoder: the tokeniser.
        limit: the largest number of ids of a text; the positions of the model are another one, where that is smaller
            (:attr:`bench.tasks.tolerance.Tolerance.BEYOND_POSITIONS`).
        around: what is put before and behind every text.
    """
    if len(texts) < CACHED_TEXTS or encoder.digest is None:
        return _encoded(texts, encoder, limit, around)
    strings = texts if isinstance(texts, Strings) else Strings.of(texts)
    key = hashlib.sha256(repr((EDITION, encoder.digest, limit, encoder.positions, around)).encode())
    key.update(np.ascontiguousarray(strings.content).data)
    key.update(np.ascontiguousarray(strings.begins).data)
    path = cache_folder() / "tokens" / f"{key.hexdigest()[:32]}.safetensors"
    if content := read_verified(path):
        arrays, metadata = content
        return TokenIds(arrays["ids"], arrays["begins"], int(metadata["cut"]))
    encoded = _encoded(strings.to_list(), encoder, limit, around)
    write_verified(path, {"ids": encoded.ids, "begins": encoded.begins}, {"cut": str(encoded.cut)})
    return encoded


def _encoded(texts: Sequence[str], encoder: TextEncoder, limit: int | None, around: tuple[str, str]) -> TokenIds:
    before, behind = around
    parts: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    cut = 0
    for begin in range(0, len(texts), CHUNK):
        complete = [f"{before}{text}{behind}" for text in texts[begin : begin + CHUNK]]
        ids, counts = encoder.encode_all(complete, limit)
        positions = encoder.positions
        if positions is not None and (long := int((counts > positions).sum())):
            # Encoding to fewer ids changes no text that has fewer.
            ids, counts = encoder.encode_all(complete, positions)
            cut += long
        parts.append(ids)
        lengths.append(counts)
    begins = np.zeros(len(texts) + 1, np.int64)
    if parts:
        np.cumsum(np.concatenate(lengths), out=begins[1:])
    return TokenIds(np.concatenate(parts) if parts else np.empty(0, np.int32), begins, cut)
