"""Structured pruning by magnitude: the start values of a side network, cut out of the backbone's weights.

The chain of the LST official code (``pruning_v2``) with |weight| as the importance: the outputs that are kept of one
module are the inputs of the next. The rows of q, k and v, and those of the FFN's first Linears, are chosen together, by
the product of their importances; norms and biases keep what the rows before them keep.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from methods.core.sites import ports_of

POINTS = {"sa": (("q", "k", "v"), ("o",)), "xa": (("q", "k", "v"), ("o",)), "ff": (("up",), ("mid",))}
"""The Linears of a block by their sites, those whose rows are chosen together in one tuple; the Linear at ``mid`` is
the FFN's second."""


@torch.no_grad()
def cut_layers(
    family: str, stack: str, wide_layers: Iterable[nn.Module], narrow_layers: Iterable[nn.Module], kept: Tensor
) -> Tensor:
    """Fill narrow layers with rows and columns of wide ones.

    Args:
        family: backbone family.
        stack: "enc" or "dec".
        wide_layers: HF's layers of the backbone.
        narrow_layers: as many layers of the same class, of smaller widths.
        kept: indices of the wide stack's input features that the narrow stack's stand for.

    Returns:
        The indices of the wide stack's output features that the narrow stack's stand for.
    """
    for index, layers in enumerate(zip(wide_layers, narrow_layers, strict=True)):
        for block in ("sa", "ff") if stack == "enc" else ("sa", "xa", "ff"):
            before, after = ((("ln",),), ()) if family == "t5" else ((), (("ln",),))
            for points in (*before, *POINTS[block], *after):
                sites = [f"{stack}.{block}.{point}" for point in points]
                wide, narrow = ([p.module for s in sites for p in ports_of(family, s, index, at)] for at in layers)
                kept = cut_modules(wide, narrow, kept)
    return kept


@torch.no_grad()
def cut_modules(wide: Sequence[nn.Module], narrow: Sequence[nn.Module], kept: Tensor) -> Tensor:
    """Fill norms from the features ``kept``, or Linears side by side from the columns ``kept`` and their most important
    rows. Returns the indices of the output features that are kept."""
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
    """Return the indices of the ``count`` largest values, in ascending order."""
    return importance.topk(count).indices.sort().values
