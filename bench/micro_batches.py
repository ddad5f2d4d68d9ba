"""Gradients of a batch that goes through the model in parts, and the loss of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench import device as dev
from bench import losses
from bench.config import Recipe
from bench.data.batches import Batch
from methods.core.contracts import Penalty


@dataclass
class MicroBatches:
    """In which parts a batch goes through the model forward and backward, before the one update that it makes.

    The loss and, up to rounding and the random numbers of dropout, the gradients are those of the whole batch.

    Attributes:
        size: the number of examples of a part, None for the whole batch; it is halved where memory does not suffice.
        trim: whether a part has no more padding than it needs; False for models on whose output padding has an effect.
        on_halved: called with the new size where memory did not suffice.
    """

    size: int | None = None
    trim: bool = True
    on_halved: Callable[[int], None] = lambda size: None

    def backward(
        self,
        model: nn.Module,
        batch: Batch,
        kind: str,
        recipe: Recipe,
        device: torch.device,
        penalties: Sequence[Penalty] = (),
    ) -> Tensor:
        """Add the gradients of a batch to the parameters and return its loss, detached.

        Where memory does not suffice, the gradients are made again with parts of half the size and the same random
        numbers.

        Raises:
            RuntimeError: the allocator's, if memory does not suffice for one example.
        """
        state = dev.rng_state()
        while True:
            try:
                return self._backward(model, batch, kind, recipe, device, penalties)
            except RuntimeError as error:
                size = min(self.size or len(batch.ids), len(batch.ids))
                if not dev.is_out_of_memory(error) or size == 1:
                    raise
                self.size = (size + 1) // 2
            # Outside of the handler, whose traceback holds the tensors of the failed pass.
            model.zero_grad(set_to_none=True)
            dev.free_memory(device)
            dev.set_rng_state(state)
            self.on_halved(self.size)

    def saved_bytes(
        self,
        model: nn.Module,
        batch: Batch,
        kind: str,
        recipe: Recipe,
        device: torch.device,
        penalties: Sequence[Penalty] = (),
    ) -> int:
        """Run the longest part of a batch forward and backward, and return the bytes that autograd keeps in between.

        The parameters have no gradients, and the random generators their states, as before.
        """
        state = dev.rng_state()
        while True:
            size = self.size
            longest = batch.split(size or len(batch.ids), trim=self.trim)[-1]
            with dev.SavedActivations(model) as saved:
                self.backward(model, longest, kind, recipe, device, penalties)
            model.zero_grad(set_to_none=True)
            dev.set_rng_state(state)
            if size == self.size:  # otherwise memory did not suffice, and what was counted is of two passes
                return saved.bytes

    def _backward(
        self,
        model: nn.Module,
        batch: Batch,
        kind: str,
        recipe: Recipe,
        device: torch.device,
        penalties: Sequence[Penalty],
    ) -> Tensor:
        total = losses.normalizer(kind, batch.labels)
        parts = batch.split(self.size or len(batch.ids), trim=self.trim)
        loss = torch.zeros((), device=device)
        for part in parts:
            share = len(part.ids) / len(batch.ids)
            part_loss = batch_loss(model, part.to(device), kind, recipe, device, penalties, total=total, share=share)
            part_loss.backward()
            loss += part_loss.detach()
        return loss


def batch_loss(
    model: nn.Module,
    batch: Batch,
    kind: str,
    recipe: Recipe,
    device: torch.device,
    penalties: Sequence[Penalty] = (),
    *,
    total: int | None = None,
    share: float = 1.0,
) -> Tensor:
    """Return the loss that the task's official training step computes on a batch, in float32, with the penalties of the
    modules ``penalties``.

    Of a part of a batch it is the part's contribution: ``total`` is then the batch's :func:`bench.losses.normalizer`,
    and ``share`` the part's share of the examples, by which penalties are weighted.
    """
    features = torch.zeros_like(batch.vis_feats) if recipe.visual == "zero" else batch.vis_feats
    with dev.autocast(device, recipe.precision):
        token_losses = model.token_losses(  # type: ignore[operator]
            batch.input_ids, features, batch.labels, batch.task, batch.label_positions
        )
    total = losses.normalizer(kind, batch.labels) if total is None else total
    loss = losses.reduce(kind, token_losses, batch.labels, batch.weights, total)
    return sum((share * p for m in penalties if (p := m.penalty()) is not None), loss)
