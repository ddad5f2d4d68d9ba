"""A soft prompt, and the encoder's input with it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory


class SoftPrompt(nn.Module):
    """``W_2 · tanh(W_1 · E + b_1) + b_2``, ``p d`` for p tokens (VL-Adapter official code, ``single_prompt``)."""

    def __init__(self, length: int, d: int, mid: int, make: LayerFactory) -> None:
        super().__init__()
        self.embedding = make.table(length, d)
        self.down = make.linear(d, mid)
        self.up = make.linear(mid, d)

    def forward(self) -> Tensor:
        """Return the prompt, ``p d``."""
        return self.up(torch.tanh(self.down(self.embedding)))


class PromptInput(nn.Module):
    """Puts a prompt in front of the text (:class:`methods.core.contracts.EncoderInput`)."""

    def __init__(self, prompt: nn.Module) -> None:
        super().__init__()
        self.prompt = prompt

    def forward(
        self,
        join: Callable[..., Any],
        encoder: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        visual_tokens: Tensor,
    ) -> tuple[Any, Tensor]:
        """Encode ``[prompt ; text ; visual tokens]``."""
        prompt = self.prompt().expand(len(input_ids), -1, -1)
        return join(encoder, input_ids, attention_mask, visual_tokens, prompt)
