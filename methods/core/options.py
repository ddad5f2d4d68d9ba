"""Types of options that several methods have, in the form in which users write them."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from methods.core.errors import did_you_mean
from methods.core.spec import BIASES, LAYER_SITES, NORMS


def _names_among(what: str, choices: tuple[str, ...], abbreviations: dict[str, str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        names = () if text in ("none", *abbreviations) else text.split("+")
        for name in names:
            if name not in choices:
                raise ValueError(f"no {what} called {name!r}{did_you_mean(name, ['none', *abbreviations, *choices])}")
        return text

    return check


ALL = {"all": "enc+dec"}
Norms = Annotated[str, AfterValidator(_names_among("norms are", NORMS, ALL))]
"""Which norms are trained: "none", "all", or stacks and kinds of norms joined by "+", such as "enc+dec.xa"."""
Biases = Annotated[str, AfterValidator(_names_among("biases are", BIASES, ALL))]
"""Which biases are trained: "none", "all", or stacks and Linears joined by "+", such as "enc" or "dec.ff.out"."""
_ENCODER = tuple(site for site in LAYER_SITES if site.startswith("enc."))
Encoder = Annotated[str, AfterValidator(_names_among("encoder sites are", ("sa", "ff", *_ENCODER), {"both": "sa+ff"}))]
"""Where in the encoder: "none", "both", "sa" or "ff" for the outputs of these blocks, or sites joined by "+"."""
At = Annotated[tuple[str, ...], Field(min_length=1)]
"""Names of sites (:mod:`methods.core.shape`)."""
Layers = Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...]
"""Which layers of a stack: "all", or their numbers from 0."""
Act = Literal["gelu_tanh", "relu", "silu", "tanh", "none"]
Start = Literal["backbone", "normal", "torch"]
"""The start rule of matrices: as in the official code on this backbone, N(0, 0.02²), or torch's default."""
Share = Literal["all", "none", "down", "up"]
"""What all tasks share: the whole module, nothing, or its down- or up-projection."""


def joined(text: str) -> tuple[str, ...]:
    """Split a "+"-joined option into its names; "all" stands for both stacks, "none" for nothing.

    >>> joined("none"), joined("all"), joined("enc+dec.xa")
    ((), ('enc', 'dec'), ('enc', 'dec.xa'))
    """
    text = ALL.get(text, text)
    return () if text == "none" else tuple(text.split("+"))
