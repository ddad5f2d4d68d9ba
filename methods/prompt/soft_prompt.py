"""A soft prompt, and how it joins the encoder's input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory


class Prompt(nn.Module):
    """``W_2 · tanh(W_1 · E + b_1) + b_2``: p x d (VL-Adapter official code, ``single_prompt``)."""

    def __init__(self, length: int, d: int, mid: int, make: LayerFactory) -> None:
        super().__init__()
        self.embedding = make.table(length, d)
        self.down = make.linear(d, mid)
        self.up = make.linear(mid, d)

    def forward(self) -> Tensor:
        """The prompt ``p d``."""
        return self.up(torch.tanh(self.down(self.embedding)))


class Prompted(nn.Module):
    """Puts a prompt in front; stands in a wrapper's ``pet`` as ``input``."""

    def __init__(self, prompt: nn.Module) -> None:
        super().__init__()
        self.prompt = prompt

    def forward(self, join: Callable[..., Any], encoder: nn.Module, ids: Tensor, mask: Tensor, visual: Tensor) -> Any:
        """What ``join`` gives for ``[prompt ; text ; visual]``."""
        return join(encoder, ids, mask, visual, self.prompt().expand(len(ids), -1, -1))
