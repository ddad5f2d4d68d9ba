"""Kinds of options that several methods have, as users write them."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from methods.core.errors import did_you_mean
from methods.core.spec import BIASES, LAYER_SITES, NORMS


def _known(what: str, known: tuple[str, ...], short: dict[str, str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        names = () if text in ("none", *short) else text.split("+")
        for name in names:
            if name not in known:
                raise ValueError(f"no {what} called {name!r}{did_you_mean(name, ['none', *short, *known])}")
        return text

    return check


ALL = {"all": "enc+dec"}
Norms = Annotated[str, AfterValidator(_known("norms are", NORMS, ALL))]
"""Which norms are trained: "none", "all", or stacks and kinds of norms joined by "+", such as "enc+dec.xa"."""
Biases = Annotated[str, AfterValidator(_known("biases are", BIASES, ALL))]
"""Which biases are trained: "none", "all", or stacks and Linears joined by "+", such as "enc" or "dec.ff.out"."""
_ENCODER = tuple(site for site in LAYER_SITES if site.startswith("enc."))
Encoder = Annotated[str, AfterValidator(_known("encoder sites are", ("sa", "ff", *_ENCODER), {"both": "sa+ff"}))]
"""Where in the encoder: "none", "both", "sa" or "ff" for the outputs of these blocks, or sites joined by "+"."""
At = Annotated[tuple[str, ...], Field(min_length=1)]
"""Sites."""
Layers = Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...]
"""Which layers of a stack: "all", or their numbers from 0."""
Act = Literal["gelu_tanh", "relu", "silu", "tanh", "none"]
Start = Literal["backbone", "normal", "torch"]
"""Start values: what the official code had in effect on this backbone, N(0, 0.02²), or torch's default."""
Share = Literal["all", "none", "down", "up"]
"""What all tasks have in common: the whole module, nothing, or its down- or up-projection."""


def joined(text: str) -> tuple[str, ...]:
    """The names in a "+"-joined option.

    >>> joined("none"), joined("all"), joined("enc+dec.xa")
    ((), ('enc', 'dec'), ('enc', 'dec.xa'))
    """
    text = ALL.get(text, text)
    return () if text == "none" else tuple(text.split("+"))
