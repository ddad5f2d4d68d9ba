"""Cross-entropy of an answer's tokens: without the logits of positions that have no label and, where the output layer
is frozen, without ever holding the logits of all positions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_BYTES = 16 << 20  # of float32 logits that exist at one time


def is_plain(head: nn.Module) -> bool:
    """Return whether an output layer does nothing but multiply by a matrix and add a bias: no method has changed it."""
    hooks = (head._forward_hooks, head._forward_pre_hooks, head._backward_hooks, head._backward_pre_hooks)
    return type(head) is nn.Linear and "forward" not in vars(head) and not any(hooks)


@contextmanager
def labelled_states(head: nn.Module, positions: Tensor) -> Iterator[list[Tensor]]:
    """Within the context the output layer ``head`` gets no positions, and what it would get is kept instead.

    The rest of the language model runs as ever, with everything that methods have put into it.

    Args:
        head: the output layer, which reads states ``b u d``.
        positions: ``n`` indices of the labelled positions among the ``b u`` ones.

    Yields:
        A list that has the states ``n d`` of the labelled positions once the model has run.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        kept.append(inputs[0].flatten(0, 1).index_select(0, positions))
        return (inputs[0][:, :0],)

    handle = head.register_forward_pre_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def head_losses(states: Tensor, head: Any, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Return the cross-entropy ``n`` in float32 of states ``n d`` through an output layer, for token ids ``n``.

    Args:
        states: what the output layer reads.
        head: a Linear ``d -> vocabulary``; :func:`is_plain`.
        bias: what is added to the logits besides the bias of the layer, ``vocabulary``, or None.
        targets: the tokens' ids.
    """
    frozen = not any(p.requires_grad for p in head.parameters()) and (bias is None or not bias.requires_grad)
    if frozen:
        biases = [b for b in (head.bias, bias) if b is not None]
        return FrozenLinearCrossEntropy.apply(states, head.weight, sum(biases) if biases else None, targets)
    logits = head(states)
    if bias is not None:
        logits = logits + bias
    return F.cross_entropy(logits.float(), targets, reduction="none")


class FrozenLinearCrossEntropy(torch.autograd.Function):
    """``-log softmax(W s + b)[target]`` in float32 for every row s, chunk by chunk.

    W gets no gradient, so the gradient of a row's loss, ``Wᵀ (softmax(W s + b) - onehot(target))``, can be computed
    together with the loss, while the chunk's logits are there; the backward pass only scales it.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """Return losses ``n`` of states ``n d``, a weight ``vocabulary d``, a bias ``vocabulary`` and ids ``n``."""
        kind = "cpu" if states.device.type == "meta" else states.device.type  # shapes alone know no autocast
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        needs_gradient = ctx.needs_input_grad[0]
        losses = states.new_empty(len(states), dtype=torch.float32)
        gradients = torch.empty_like(states) if needs_gradient else None
        with torch.autocast(kind, enabled=False):
            matrix = weight.to(dtype)
            rows = max(1, CHUNK_BYTES // (4 * len(weight)))
            for begin in range(0, len(states), rows):
                part = slice(begin, begin + rows)
                logits = (states[part].to(dtype) @ matrix.T).float()
                if bias is not None:
                    logits += bias
                picked = targets[part, None]
                normalizer = logits.logsumexp(dim=1, keepdim=True)
                losses[part] = (normalizer - logits.gather(1, picked)).squeeze(1)
                if gradients is not None:
                    slopes = logits.sub_(normalizer).exp_()
                    slopes.scatter_add_(1, picked, slopes.new_full((1, 1), -1.0).expand_as(picked))
                    gradients[part] = slopes.to(dtype) @ matrix
        ctx.save_for_backward(gradients)
        return losses

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Scale the gradient of every row by that of its loss."""
        (gradients,) = ctx.saved_tensors
        return (None if gradients is None else gradients * incoming[0][:, None].to(gradients.dtype)), None, None, None
