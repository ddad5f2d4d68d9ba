"""What a family of language models is to this suite: data, and one function that joins text and visual tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Joined = tuple[Tensor, Tensor]
"""Encoder states ``(b, n, d)`` and the mask of their tokens ``(b, n)``."""


@dataclass(frozen=True)
class BackboneFamily:
    """One encoder-decoder architecture of transformers.

    Attributes:
        name: HF's ``model_type``.
        model: class of the language model with its head.
        config: class of its configuration.
        norm: builds the norm of a projector branch from the configuration.
        join: ``(encoder, text ids (b, t), text mask (b, t), visual (b, v, d), prompt (b, p, d) or None)`` to encoder
            states ``(b, n, d)`` and their mask ``(b, n)`` with n = p + t + v.
        init_visual: draws the projector's initial values.
        new_row_std: standard deviation of new rows of the word embedding.
        added_tokens: the special tokens that the official tokenisers add, in order, given what is there.
        prompt_ids: what precedes the first answer token in the decoder, given the configuration.
        generation: arguments of ``generate`` that the published checkpoints' configurations imply.
        presets: named sizes, as values of the configuration.
    """

    name: str
    model: Any
    config: Any
    norm: Callable[[Any], nn.Module]
    join: Callable[..., Joined]
    init_visual: Callable[[nn.Module, Any], None]
    new_row_std: float
    added_tokens: tuple[str, ...]
    prompt_ids: Callable[[Any], list[int]]
    generation: dict[str, Any]
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)


def extra_tokens(prefix: str) -> tuple[str, ...]:
    """Return ``<prefix_99>`` to ``<prefix_0>``: the highest number first, as the official tokenisers add them."""
    return tuple(f"<{prefix}_{i}>" for i in reversed(range(100)))


def joint_mask(mask: Tensor, visual: Tensor) -> Tensor:
    """Extend a text mask ``(b, t)`` by ones for the visual tokens ``(b, v, d)``; padded frames count too (quirk
    VID-PADMASK)."""
    from torch import cat

    return cat([mask, mask.new_ones(visual.shape[:2])], dim=1)


def ones_before(mask: Tensor, prompt: Tensor) -> Tensor:
    """Extend a mask ``(b, t)`` by ones for a prompt ``(b, p, d)`` in front."""
    from torch import cat

    return cat([mask.new_ones(prompt.shape[:2]), mask], dim=1)


def additive(mask: Tensor, states: Tensor) -> Tensor:
    """Return what is added to attention scores, ``(b, 1, n, n)``: 0 where attended, the type's minimum elsewhere."""
    import torch

    hidden = (1 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
    return hidden.expand(-1, 1, states.shape[1], -1)
