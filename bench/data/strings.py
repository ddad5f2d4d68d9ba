"""Many strings in two arrays, which can be memory maps."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Strings(Sequence[str]):
    """A sequence of strings.

    Args:
        content: ``(bytes,)``, all strings in UTF-8, one behind the other.
        begins: ``(n + 1,)``, where each begins.
    """

    def __init__(self, content: NDArray[np.uint8], begins: NDArray[np.int64]) -> None:
        self.content = content
        self.begins = begins

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Strings":
        """Copy strings; lone surrogates stay what they are."""
        strings = strings if isinstance(strings, list) else list(strings)
        joined = "".join(strings)
        content = joined.encode("utf-8", "surrogatepass")
        is_ascii = len(content) == len(joined)
        lengths = [len(string if is_ascii else string.encode("utf-8", "surrogatepass")) for string in strings]
        begins = np.zeros(len(strings) + 1, np.int64)
        np.cumsum(lengths, out=begins[1:])
        return cls(np.frombuffer(content, np.uint8), begins)

    def __len__(self) -> int:
        return len(self.begins) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.content[self.begins[index] : self.begins[index + 1]].tobytes().decode("utf-8", "surrogatepass")

    def to_list(self) -> list[str]:
        """Return all strings; faster than one after the other."""
        content = self.content.tobytes()
        begins = self.begins.tolist()
        text = content.decode("utf-8", "surrogatepass")
        if len(text) == len(content):
            return [text[begin:end] for begin, end in pairwise(begins)]
        pairs = pairwise(begins)
        return [content[begin:end].decode("utf-8", "surrogatepass") for begin, end in pairs]
