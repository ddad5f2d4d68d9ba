"""A penalty on how far tuning has moved what the encoder says of text alone."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Distill(nn.Module):
    """``weight · (1 - mean cos(s, s_0))``: s the mean of an example's encoder states of its text alone, s_0 the same
    with every tuned parameter at its value before tuning, both without dropout.

    Stands in a wrapper's ``pet`` as ``input``, where it sees the text of each forward pass in training. Values before
    tuning are kept as buffers and put in place for the second of two passes over the text, which has no gradients.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._tuned: tuple[nn.Parameter, ...] = ()
        self._text: tuple[Any, ...] | None = None

    def keep(self, tuned: Iterable[nn.Parameter]) -> None:
        """Keep the present values of what will be tuned."""
        self._tuned = tuple(tuned)
        for index, parameter in enumerate(self._tuned):
            self.register_buffer(f"before_{index}", parameter.detach().clone())

    def forward(self, join: Callable[..., Any], encoder: nn.Module, ids: Tensor, mask: Tensor, visual: Tensor) -> Any:
        """What ``join`` gives."""
        if self.training:
            self._text = (join, encoder, ids, mask, visual[:, :0].detach())
        return join(encoder, ids, mask, visual)

    def penalty(self) -> Tensor | None:
        """The penalty on the text of the last forward pass in training; None where there was none."""
        if self._text is None:
            return None
        (join, encoder, *inputs), self._text = self._text, None
        training = encoder.training
        encoder.eval()
        try:
            now = _mean(*join(encoder, *inputs))
            with torch.no_grad(), self._untuned():
                before = _mean(*join(encoder, *inputs))
        finally:
            encoder.train(training)
        return self.weight * (1 - F.cosine_similarity(now, before).mean())

    @contextmanager
    def _untuned(self) -> Iterator[None]:
        tuned = [parameter.data for parameter in self._tuned]
        try:
            for index, parameter in enumerate(self._tuned):
                parameter.data = self.get_buffer(f"before_{index}")
            yield
        finally:
            for parameter, value in zip(self._tuned, tuned, strict=True):
                parameter.data = value


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """Of an example's tokens, in float32: ``b n d`` and ``b n`` to ``b d``."""
    weight = mask.unsqueeze(-1).float()
    return (states.float() * weight).sum(dim=1) / weight.sum(dim=1)
