"""Structured pruning by magnitude: the start values of a side network, cut out of the backbone's weights.

The chain of the LST official code (``pruning_v2``) with |weight| as the importance: what a module gives out is what the
next one takes in. The rows of q, k and v, and those of the FFN's first Linears, are chosen together, by the product of
their importances; a norm and a bias follow the rows before them.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from methods.core.sites import ports_of

POINTS = {"sa": (("q", "k", "v"), ("o",)), "xa": (("q", "k", "v"), ("o",)), "ff": (("up",), ("mid",))}
"""The Linears of a block, those that share their rows together; what stands at ``mid`` is the FFN's second."""


@torch.no_grad()
def cut(family: str, stack: str, theirs: Iterable[nn.Module], ours: Iterable[nn.Module], kept: Tensor) -> Tensor:
    """Fill narrow layers with rows and columns of wide ones.

    ``kept`` are the indices of the wide stack's input that the narrow one stands for; returned are those of its output.
    """
    for index, layers in enumerate(zip(theirs, ours, strict=True)):
        for block in ("sa", "ff") if stack == "enc" else ("sa", "xa", "ff"):
            before, after = ((("ln",),), ()) if family == "t5" else ((), (("ln",),))
            for points in (*before, *POINTS[block], *after):
                sites = [f"{stack}.{block}.{point}" for point in points]
                wide, narrow = ([p.module for s in sites for p in ports_of(family, s, index, at)] for at in layers)
                kept = follow(wide, narrow, kept)
    return kept


@torch.no_grad()
def follow(wide: Sequence[nn.Module], narrow: Sequence[nn.Module], kept: Tensor) -> Tensor:
    """Fill norms at ``kept``, or Linears side by side from columns ``kept`` and the rows of most importance.

    Returns the indices kept of what they give out.
    """
    weights: list[Tensor] = [module.weight for module in wide]  # type: ignore[misc]
    if weights[0].dim() == 2:
        weights = [weight[:, kept] for weight in weights]
        importance = torch.stack([weight.float().abs() for weight in weights]).prod(dim=0)
        kept = largest(importance.sum(dim=1), len(narrow[0].weight))  # type: ignore[arg-type]
    for module, weight, new in zip(wide, weights, narrow, strict=True):
        new.weight.copy_(weight[kept])  # type: ignore[operator]
        if getattr(module, "bias", None) is not None:
            new.bias.copy_(module.bias[kept])  # type: ignore[operator, index]
    return kept


def largest(importance: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` largest values, in ascending order."""
    return importance.topk(count).indices.sort().values
