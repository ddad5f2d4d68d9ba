"""Less memory for the backward pass: what is cheap to compute is computed again there instead of being kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from methods.core import context, replay

ORIGIN = "origin"  # the name of the fact in methods.core.replay

LARGE = 1 << 17
"""Entries of a function's result from which on it is computed again. In small models the bookkeeping costs more time
than there is memory to save."""


def recomputed(function: Callable[..., Tensor], result: Tensor, *inputs: Any) -> Tensor:
    """Return ``function(*inputs)``; of a large one, autograd keeps the inputs only, without those that are a norm's
    output.

    The modules at a site of a layer (a bottleneck, a low-rank map, a gate) cost a few percent of the layer, but all
    that they would keep is several times as large as its output.

    Args:
        function: draws the same random numbers, and gets the same task and number of visual tokens
            (:mod:`methods.core.context`), when it is called again.
        result: a tensor of the size of the result.
        inputs: tensors, or what the function reads besides them.
    """
    if not torch.is_grad_enabled() or result.numel() < LARGE:
        return function(*inputs)
    task, visual = context.current_task(), context.visual_tokens()
    origins = [replay.recall(value, ORIGIN) if isinstance(value, Tensor) else None for value in inputs]
    computed = list(inputs)  # for the first call alone

    def in_context(*kept: Any) -> Tensor:
        values = [_computed(*pair) for pair in zip(kept, origins, strict=True)] if not computed else computed[:]
        computed.clear()
        with context.task(task), context.visual(visual):
            return function(*values)

    kept = (value if origin is None else origin.input for value, origin in zip(inputs, origins, strict=True))
    return checkpoint(in_context, *kept, use_reentrant=False)


@dataclass(frozen=True)
class Origin:
    """The norm that has computed a tensor, and its input, which autograd keeps for the norm itself."""

    norm: nn.Module
    input: Tensor


def remember_origin(norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
    """Tie its origin to the output of a norm (a hook), so that :func:`recomputed` need not keep the output."""
    if output.requires_grad and output.numel() >= LARGE:
        replay.remember(output, ORIGIN, Origin(norm, args[0]))


def _computed(kept: Any, origin: Origin | None) -> Any:
    """Compute an input again from what was kept of it; what follows computes values only, no gradients flow back."""
    if origin is None:
        return kept
    with torch.no_grad():
        return type(origin.norm).forward(origin.norm, kept).requires_grad_()  # without what hooks do
