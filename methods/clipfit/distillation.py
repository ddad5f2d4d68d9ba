"""A penalty on how far tuning has moved the encoder's states of text alone (CLIPFit)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DistillationPenalty(nn.Module):
    """``weight · (1 - mean cos(s, s_0))``, s the mean of the encoder's states of an example's text alone, s_0 the same
    with every tuned parameter at its value before tuning, both without dropout.

    It is an :class:`~methods.core.contracts.EncoderInput` because there it is given the text of each forward pass in
    training, and a :class:`~methods.core.contracts.Penalty`. The values before tuning are buffers, which take the place
    of the tuned ones during the second of two passes over the text, the one without gradients.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._tuned: tuple[nn.Parameter, ...] = ()
        self._text: tuple[Any, ...] | None = None  # the arguments of the last forward pass in training

    def keep_untuned(self, tuned: Iterable[nn.Parameter]) -> None:
        """Keep the present values of the parameters that will be tuned."""
        self._tuned = tuple(tuned)
        for index, parameter in enumerate(self._tuned):
            self.register_buffer(f"before_{index}", parameter.detach().clone())

    def forward(
        self,
        join: Callable[..., Any],
        encoder: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        visual_tokens: Tensor,
    ) -> tuple[Any, Tensor]:
        """Encode text and visual tokens as without a method, and keep the text for :meth:`penalty`."""
        if self.training:
            self._text = (join, encoder, input_ids, attention_mask, visual_tokens[:, :0].detach())
        return join(encoder, input_ids, attention_mask, visual_tokens)

    def penalty(self) -> Tensor | None:
        """Return the penalty on the text of the last forward pass in training; None where there was none."""
        if self._text is None:
            return None
        (join, encoder, *inputs), self._text = self._text, None
        training = encoder.training
        encoder.eval()
        try:
            tuned = _mean(*join(encoder, *inputs))
            with torch.no_grad(), self._untuned():
                untuned = _mean(*join(encoder, *inputs))
        finally:
            encoder.train(training)
        return self.weight * (1 - F.cosine_similarity(tuned, untuned).mean())

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
    """Return the mean over an example's tokens in float32: states ``b n d`` and mask ``b n`` to ``b d``."""
    weight = mask.unsqueeze(-1).float()
    return (states.float() * weight).sum(dim=1) / weight.sum(dim=1)
