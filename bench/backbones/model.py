"""The vision-language model: an unmodified HF encoder-decoder that also reads visual tokens."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from bench.backbones.answer_losses import head_losses, is_plain, labelled_states
from bench.backbones.beam_cache import beam_cache
from bench.backbones.family import BackboneFamily
from bench.backbones.visual import filled_rows, pool
from bench.losses import IGNORED
from methods.core import context, contracts


@dataclass
class VLOutput:
    """What one pass through encoder and decoder gives.

    Attributes:
        logits: ``(b, u, vocabulary)``.
        encoder_last_hidden_state: the language model's encoder states ``(b, n, d)``; with a side network (LST) those of
            the text alone, ``(b, t, d)``.
        labels: ``(b, u)``, padded with -100, or None.
    """

    logits: Tensor
    encoder_last_hidden_state: Tensor
    labels: Tensor | None = None

    @cached_property
    def loss(self) -> Tensor | None:
        """Cross-entropy in float32, averaged over the labels that are not -100; None without labels."""
        if self.labels is None:
            return None
        return F.cross_entropy(self.logits.float().flatten(0, 1), self.labels.flatten(), ignore_index=IGNORED)


class VLModel(nn.Module):
    """An HF encoder-decoder whose encoder reads ``[text ; visual tokens]``; decoder and output layer are unchanged.

    In shapes, b is the batch size, t the number of text tokens, v of features or visual tokens, f the columns of the
    features, n = t + v, u the length of the answer, d the model width.

    Attributes:
        lm: the HF model, as transformers has it.
        visual_embedding: the visual projector, ``(features, boxes) -> visual tokens``.
        family: name of the backbone family, ``"bart"`` or ``"t5"``.
        backbone_family: the family itself.
        n_boxes: a grid of more features is max-pooled before it is projected.
        masks_padding: whether the padded frames of short videos are left out of attention. The official code attends to
            them (quirk VID-PADMASK), so it is False unless set.
        reads_padding: whether an example's result depends on how much padding stands behind it, as with some methods.
            It is False unless set.
        pet: the modules of the attached method (:func:`methods.attach`). One of them may encode in the place of the
            family's ``encode_joint`` (:class:`methods.core.contracts.EncoderInput`).
    """

    pet: nn.ModuleDict

    def __init__(self, lm: Any, visual_embedding: nn.Module, family: BackboneFamily, n_boxes: int) -> None:
        super().__init__()
        self.lm = lm
        self.visual_embedding = visual_embedding
        self.family = family.name
        self.backbone_family = family
        self.n_boxes = n_boxes
        self.masks_padding = False
        self.reads_padding = False

    def encode(
        self, input_ids: Tensor, vis_feats: Tensor, boxes: Tensor | None = None
    ) -> tuple[BaseModelOutput, Tensor]:
        """Encode text ids ``(b, t)`` and features ``(b, v, f)``, or ``(b, 2, v, f)`` of two images.

        Returns:
            The encoder's output with states ``(b, n, d)``, and the mask ``(b, n)`` of what the decoder may attend to.
        """
        vis_feats, boxes = pool(vis_feats, boxes, self.n_boxes)
        visual = self.visual_embedding(vis_feats, boxes)
        mask = (input_ids != self.lm.config.pad_token_id).long()
        join = self.backbone_family.encode_joint
        encoder_input = contracts.encoder_input(self)
        with context.visual(visual.shape[1], filled_rows(vis_feats) if self.masks_padding else None):
            arguments = (self.lm.get_encoder(), input_ids, mask, visual)
            states, mask = join(*arguments) if encoder_input is None else encoder_input(join, *arguments)
        return states if isinstance(states, BaseModelOutput) else BaseModelOutput(last_hidden_state=states), mask

    def forward(
        self,
        input_ids: Tensor,
        vis_feats: Tensor,
        boxes: Tensor | None = None,
        labels: Tensor | None = None,
        task: str = "vqa",
        decoder_input_ids: Tensor | None = None,
    ) -> VLOutput:
        """Run encoder and decoder once, with teacher forcing where there are labels.

        Args:
            input_ids: ``(b, t)``, padded with the pad id.
            vis_feats: ``(b, v, f)``, or ``(b, 2, v, f)`` for two images.
            boxes: like ``vis_feats`` with 4 columns; None for zeros.
            labels: ``(b, u)``, padded with -100; shifted right they are the decoder's input.
            task: name of the task, for methods with weights per task.
            decoder_input_ids: ``(b, u)``, the decoder's input where there are no labels; by default its start token.
        """
        if labels is not None:
            decoder_input_ids = self._shift_right(labels)
        elif decoder_input_ids is None:
            decoder_input_ids = input_ids.new_full((len(input_ids), 1), self.lm.config.decoder_start_token_id)
        with context.task(task):
            outputs, mask = self.encode(input_ids, vis_feats, boxes)
            logits = self.lm(
                attention_mask=mask, encoder_outputs=outputs, decoder_input_ids=decoder_input_ids, use_cache=False
            ).logits
        return VLOutput(logits, outputs[0], labels)

    def token_losses(
        self,
        input_ids: Tensor,
        vis_feats: Tensor,
        labels: Tensor,
        task: str = "vqa",
        positions: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy ``(b, u)`` in float32 of every label, 0 where there is none, with teacher forcing.

        Logits are computed where there is a label only, and where the output layer is frozen they are never there all
        at once. A method that reads the logits, or has changed the output layer, gets them all.

        Args:
            input_ids, vis_feats, labels, task, boxes: as in :meth:`forward`.
            positions: ``(n,)``, the indices of the labels that are not -100 among all ``b u``. Whoever has computed
                them before the labels were moved to a GPU saves the wait for their number.
        """
        if positions is None:
            positions = (labels != IGNORED).flatten().nonzero().squeeze(1)
        targets = labels.flatten().index_select(0, positions)
        head = self.lm.get_output_embeddings()
        if self._forward_hooks or not is_plain(head):
            logits = self(input_ids, vis_feats, boxes, labels=labels, task=task).logits
            logits = logits.flatten(0, 1).index_select(0, positions)
            of_labels = F.cross_entropy(logits.float(), targets, reduction="none")
        else:
            with labelled_states(head, positions) as states:
                self(input_ids, vis_feats, boxes, labels=labels, task=task)
            bias = getattr(self.lm, "final_logits_bias", None)  # BART's
            of_labels = head_losses(states[0], head, None if bias is None else bias.flatten(), targets)
        losses = of_labels.new_zeros(labels.numel()).index_copy(0, positions, of_labels)
        return losses.view(labels.shape)

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, vis_feats: Tensor, boxes: Tensor | None = None, task: str = "vqa", **arguments: Any
    ) -> Tensor:
        """Return decoded ids ``(b, u)``, the decoder's start token first.

        ``arguments`` are those of HF ``generate``; :func:`bench.backbones.generation_arguments` has the official ones.
        """
        with context.task(task):
            outputs, mask = self.encode(input_ids, vis_feats, boxes)
            if (beams := arguments.get("num_beams", 1)) > 1 and arguments.get("use_cache", True):
                arguments["past_key_values"] = beam_cache(self.lm, outputs, mask, beams)
            return self.lm.generate(encoder_outputs=outputs, attention_mask=mask, **arguments)

    def set_dropout(self, p: float) -> None:
        """Set all dropout rates of the language model (hidden states, attention, activations) to ``p``."""
        for module in self.lm.modules():
            for name in ("dropout", "activation_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, float(p))
            if isinstance(module, nn.Dropout):
                module.p = p

    def _shift_right(self, labels: Tensor) -> Tensor:
        """Return labels ``(b, u)`` behind the start token, without the last one; -100 becomes the pad id."""
        start = labels.new_full((len(labels), 1), self.lm.config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == IGNORED, self.lm.config.pad_token_id)
