"""A penalty on the distance between the predictions of two forward passes of one batch (AdaMix)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # the label of a position that has none


class ConsistencyPenalty:
    """``weight · ½ (KL(p ‖ q) + KL(q ‖ p))``, averaged over the answer's tokens.

    p are the predictions of the forward pass whose loss is computed and q those of a second pass over the same batch,
    which draws other experts and other dropout. As in the official code the first argument of each KL is a constant
    target, and gradients flow through the second, so through both passes.

    A :class:`~methods.core.contracts.Penalty` without parameters. :meth:`keep_pass` is a hook on the model itself,
    which tells it what the last forward pass was called with.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._pass: tuple[Any, ...] | None = None  # the last forward pass in training with labels

    def __getstate__(self) -> dict[str, Any]:
        """Copies of a model do not share a forward pass, whose tensors could not be copied."""
        return self.__dict__ | {"_pass": None}

    def keep_pass(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Keep a forward pass of the model for :meth:`penalty`."""
        if module.training and torch.is_grad_enabled() and kwargs.get("labels") is not None:
            device = output.logits.device.type
            autocast = torch.autocast(
                device, dtype=torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device)
            )
            self._pass = (module, args, kwargs, output.logits, autocast)

    def penalty(self) -> Tensor | None:
        """Return the penalty on the last forward pass in training; None where there was none with labels."""
        if self._pass is None:
            return None
        module, args, kwargs, first, autocast = self._pass
        with autocast:  # the precision of the first pass
            second = module(*args, **kwargs).logits
        self._pass = None  # also what the hook has kept of the second pass
        answer = kwargs["labels"] != IGNORED
        return self.weight * symmetric_kl(first[answer], second[answer])


def symmetric_kl(one: Tensor, other: Tensor) -> Tensor:
    """Return ``½ (KL(p ‖ q) + KL(q ‖ p))`` of logits ``n vocabulary``, the mean over n, in float32.

    The first argument of each KL is detached.
    """
    p, q = (F.log_softmax(logits.float(), dim=-1) for logits in (one, other))
    terms = [
        F.kl_div(prediction, target.detach(), reduction="batchmean", log_target=True)
        for prediction, target in ((q, p), (p, q))
    ]
    return 0.5 * (terms[0] + terms[1])
