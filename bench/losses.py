"""Training losses: cross-entropy over the full vocabulary in float32, reduced as each task's official training step
does."""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy ``(b, t)`` of logits ``(b, t, vocabulary)``; 0 where the label is -100."""
    flat = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(labels.shape)


def reduce(kind: str, losses: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Reduce token losses ``(b, t)`` to a scalar.

    Args:
        kind: ``example``, the mean over each example's label tokens, then over the batch (GQA, NLVR2, the video tasks);
            ``weighted``, the same with each example's mean multiplied by its weight (VQA); ``tokens``, the mean over
            all label tokens of the batch (COCO captions; quirk LOSS-MIX).
        losses: cross-entropy of every token, 0 where there is no label.
        labels: ``(b, t)`` token ids, -100 where there is no label.
        weights: ``(b,)``, the scores of the answers drawn.

    Raises:
        ValueError: the kind is none of these.
    """
    labelled = labels != IGNORED
    if kind == "tokens":
        return losses.sum() / labelled.sum()
    means = losses.sum(dim=1) / labelled.sum(dim=1).clamp(min=1)
    if kind == "example":
        return means.mean()
    if kind == "weighted":
        return torch.mean(means * weights)
    raise ValueError(f"loss kind {kind!r} is none of example, weighted, tokens")
