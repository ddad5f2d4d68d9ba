"""Structured pruning: the start values of a side network, cut out of the backbone's weights.

The chain of the LST official code (``pruning_v2``): the outputs that are kept of one module are the inputs of the next.
The rows of q, k and v, and those of the FFN's first Linears, are chosen together, by the product of their importances;
norms and biases keep what the rows before them keep. What a weight's importance is, its magnitude or its Fisher
information, is for the caller to say.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from methods.core.sites import Sites, ports_of

POINTS = {"sa": (("q", "k", "v"), ("o",)), "xa": (("q", "k", "v"), ("o",)), "ff": (("up",), ("mid",))}
"""The Linears of a block by their sites, those whose rows are chosen together in one tuple; the Linear at ``mid`` is
the FFN's second."""

Importance = Callable[[Tensor], Tensor]  # of the entries of a weight, in the weight's shape


def magnitude(weight: Tensor) -> Tensor:
    """Return the absolute values of a weight in float32."""
    return weight.float().abs()


@torch.no_grad()
def kept_features(sites: Sites, factor: int, importance: Importance) -> dict[str, Tensor]:
    """Choose what a side network keeps of a backbone.

    Args:
        sites: the backbone.
        factor: of ``factor`` features of any module one is kept.
        importance: of the entries of the word embedding and of the Linears' weights.

    Returns:
        Indices in ascending order: under ``words`` those of the word embedding's columns, under ``enc`` and ``dec``,
        joined to one tensor, those of the output features of every step of :func:`chain`.
    """
    words = importance(sites.lm.get_input_embeddings().weight.detach())
    entering = largest(words.sum(dim=0), words.shape[1] // factor)
    kept = {"words": entering}
    for name in ("enc", "dec"):
        rows, chosen = entering, []
        for modules in chain(sites.shape.family, name, sites.layers(name)):
            if modules[0].weight.dim() == 2:  # type: ignore[operator]
                weights = [importance(module.weight.detach())[:, rows] for module in modules]  # type: ignore[operator]
                total = torch.stack(weights).prod(dim=0).sum(dim=1)
                rows = largest(total, len(total) // factor)
            chosen.append(rows)
        kept[name] = torch.cat(chosen)
    return kept


@torch.no_grad()
def cut_layers(
    family: str,
    stack: str,
    wide_layers: Iterable[nn.Module],
    narrow_layers: Iterable[nn.Module],
    words: Tensor,
    kept: Tensor,
) -> Tensor:
    """Fill narrow layers with rows and columns of wide ones.

    Args:
        family: backbone family.
        stack: "enc" or "dec".
        wide_layers: HF's layers of the backbone.
        narrow_layers: as many layers of the same class, of smaller widths.
        words, kept: what :func:`kept_features` returns under ``words`` and for the stack.

    Returns:
        The indices of the wide stack's output features that the narrow stack's stand for.
    """
    columns, begin = words, 0
    steps = zip(chain(family, stack, wide_layers), chain(family, stack, narrow_layers), strict=True)
    for wide, narrow in steps:
        rows = kept[begin : begin + len(narrow[0].weight)]  # type: ignore[arg-type]
        begin += len(rows)
        cut_modules(wide, narrow, rows, columns)
        columns = rows
    return columns


@torch.no_grad()
def cut_modules(wide: Sequence[nn.Module], narrow: Sequence[nn.Module], rows: Tensor, columns: Tensor) -> None:
    """Fill norms from the features ``rows``, or Linears from the entries at ``rows`` and ``columns``."""
    for module, new in zip(wide, narrow, strict=True):
        weight: Tensor = module.weight  # type: ignore[assignment]
        new.weight.copy_(weight[rows] if weight.dim() == 1 else weight[:, columns][rows])  # type: ignore[operator]
        if getattr(module, "bias", None) is not None:
            new.bias.copy_(module.bias[rows])  # type: ignore[operator, index]


def chain(family: str, stack: str, layers: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Yield the norms and Linears of layers in the order in which features pass through them, side by side those whose
    rows are chosen together."""
    for index, layer in enumerate(layers):
        for block in ("sa", "ff") if stack == "enc" else ("sa", "xa", "ff"):
            before, after = ((("ln",),), ()) if family == "t5" else ((), (("ln",),))
            for points in (*before, *POINTS[block], *after):
                sites = [f"{stack}.{block}.{point}" for point in points]
                yield [port.module for site in sites for port in ports_of(family, site, index, layer)]


def largest(importance: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` largest values, in ascending order."""
    return importance.topk(count).indices.sort().values
