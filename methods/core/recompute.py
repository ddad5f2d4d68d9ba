"""Less memory for the backward pass: what is cheap to compute is computed again there instead of being kept."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from methods.core import context

LARGE = 1 << 17
"""Entries of a function's result from which on it is computed again. In small models the bookkeeping costs more time
than there is memory to save."""


def recomputed(function: Callable[..., Tensor], result: Tensor, *inputs: Any) -> Tensor:
    """Return ``function(*inputs)``; of a large one, autograd keeps the inputs only.

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

    def in_context(*again: Any) -> Tensor:
        with context.task(task), context.visual(visual):
            return function(*again)

    return checkpoint(in_context, *inputs, use_reentrant=False)  # type: ignore[no-any-return]
