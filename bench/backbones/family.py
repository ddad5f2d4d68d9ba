"""What this suite has to know about a family of language models, and helpers to write a new one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from methods.core import context

JointEncoding = tuple[Tensor, Tensor]
"""Encoder states ``(b, n, d)`` and the mask of their tokens ``(b, n)``: 1 for tokens, 0 for padding."""


@dataclass(frozen=True)
class BackboneFamily:
    """One encoder-decoder architecture of transformers as a vision-language backbone.

    To add a family, write a module in this folder with a constant ``FAMILY``; nothing registers it. ``bart.py`` and
    ``t5.py`` are the examples to copy. Its modules also need an entry in ``methods/core/sites.py`` (where methods act)
    and its sizes in ``methods/core/shape.py``. The language model itself is used as transformers has it: the only code
    of a family is ``encode_joint``, which must call the encoder's own layers. A change that makes the same name mean
    another model raises the family's number in :data:`bench.backbones.builder.VERSIONS`.

    The tests in ``tests/backbones`` run over every family in ``tiny_vl.FAMILIES``: without visual tokens
    ``encode_joint`` must equal HF's own encoder, padding must not change any result, and generation must equal a
    token-by-token decoding.

    In shapes, b is the batch size, t the number of text tokens, v of visual tokens, p of prompt tokens (0 without a
    prompt), n = p + t + v, and d the model width.

    Attributes:
        name: HF's ``model_type``, by which the family of a configuration or checkpoint is recognised.
        model_class: HF's class of the language model with its output layer.
        config_class: HF's class of its configuration.
        build_norm: builds the norm ``(..., d) -> (..., d)`` that ends a branch of the visual projector, from the
            configuration.
        encode_joint: ``(encoder, input_ids (b, t), attention_mask (b, t), visual_tokens (b, v, d), prompt (b, p, d) or
            None) -> JointEncoding``: runs HF's encoder over ``[prompt ; text ; visual tokens]`` and returns its states
            ``(b, n, d)`` and their mask ``(b, n)``. It embeds the text, says which tokens get positions, embedding norm
            and dropout, and ends with the encoder's last norm where there is one.
        init_projector: ``(projector, configuration) -> None``: draws the projector's initial values from torch's global
            generator.
        new_row_std: standard deviation of the rows that are appended to a checkpoint's word embedding.
        added_tokens: the special tokens that the official tokeniser adds, in order; those that a tokeniser already has
            are skipped. The last hundred must be ``<vis_extra_id_99>`` to ``<vis_extra_id_0>``.
        extended_vocabulary: rows of a preset's word embedding -> rows once the official tokens have been added.
        collapses_spaces: whether the tokeniser joins runs of whitespace to one space and strips the text.
        tokenizer_files: sets of files, any one of which holds a tokeniser of the family.
        optional_weights: ends of the names of weights that published checkpoints may leave out: buffers of zeros and
            copies of tied weights.
        hub_owner: what stands before a preset's name on the HF hub, such as ``"facebook/"``.
        decoder_prompt: configuration -> ids that precede the first answer token in the decoder.
        forced_end_with_beams: whether beam search has to end an answer at the maximal length with the end token.
        generation: arguments of ``generate`` that the configurations of the published checkpoints imply.
        presets: name -> values of the configuration of a model that is built without weights.
        has_own_head: configuration -> whether the output layer is a table of its own instead of the word embedding.
        fault: configuration -> why a checkpoint with this ``model_type`` is no backbone of the family all the same; ""
            for the published ones.
    """

    name: str
    model_class: Any
    config_class: Any
    build_norm: Callable[[Any], nn.Module]
    encode_joint: Callable[..., JointEncoding]
    init_projector: Callable[[nn.Module, Any], None]
    new_row_std: float
    added_tokens: tuple[str, ...]
    extended_vocabulary: Callable[[int], int]
    collapses_spaces: bool
    decoder_prompt: Callable[[Any], list[int]]
    forced_end_with_beams: bool
    generation: dict[str, Any]
    tokenizer_files: tuple[tuple[str, ...], ...]
    optional_weights: tuple[str, ...]
    hub_owner: str = ""
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    has_own_head: Callable[[Any], bool] = lambda config: False
    fault: Callable[[Any], str] = lambda config: ""


def extra_tokens(prefix: str) -> tuple[str, ...]:
    """Return ``<prefix_99>`` to ``<prefix_0>``: the highest number first, as the official tokenisers add them."""
    return tuple(f"<{prefix}_{i}>" for i in reversed(range(100)))


def append_visual_mask(mask: Tensor, visual: Tensor) -> Tensor:
    """Append the mask of the visual tokens ``(b, v, d)`` to a mask ``(b, t)``: ones, but for padded frames where the
    model masks them (:class:`bench.backbones.VLModel`)."""
    return torch.cat([mask, context.visual_mask(visual, mask)], dim=1)


def prepend_prompt_mask(mask: Tensor, prompt: Tensor) -> Tensor:
    """Put ones for a prompt ``(b, p, d)`` before a mask ``(b, t)``."""
    return torch.cat([mask.new_ones(prompt.shape[:2]), mask], dim=1)


def additive_mask(mask: Tensor, states: Tensor) -> Tensor:
    """Return what is added to attention scores, ``(b, 1, n, n)`` in the type of ``states (b, n, d)``: 0 for tokens
    and the lowest number of that type for padding, by the mask ``(b, n)``."""
    hidden = (1 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
    return hidden.expand(-1, 1, states.shape[1], -1)
