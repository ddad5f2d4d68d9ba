"""Training losses: the cross-entropy of an answer's tokens, reduced as each task's official training step does."""

import torch
from torch import Tensor

IGNORED = -100


def normalizer(kind: str, labels: Tensor) -> int:
    """Return what :func:`reduce` divides by for labels ``(b, t)``: their number for ``tokens``, else the examples'."""
    return int((labels != IGNORED).sum()) if kind == "tokens" else len(labels)


def reduce(kind: str, losses: Tensor, labels: Tensor, weights: Tensor, total: int) -> Tensor:
    """Reduce token losses ``(b, t)`` to a scalar. Those of the parts of a batch add up to that of the batch.

    Args:
        kind: ``example``, the mean over each example's label tokens, then over the batch (GQA, NLVR2, the video tasks);
            ``weighted``, the same with each example's mean multiplied by its weight (VQA); ``tokens``, the mean over
            all label tokens of the batch (COCO captions; quirk LOSS-MIX).
        losses: cross-entropy of every token, 0 where there is no label.
        labels: ``(b, t)`` token ids, -100 where there is no label.
        weights: ``(b,)``, the scores of the answers drawn.
        total: the :func:`normalizer` of the labels of the batch.

    Raises:
        ValueError: the kind is none of these.
    """
    if kind == "tokens":
        return losses.sum() / total
    means = losses.sum(dim=1) / (labels != IGNORED).sum(dim=1).clamp(min=1)
    if kind == "example":
        return means.sum() / total
    if kind == "weighted":
        return torch.sum(means * weights) / total
    raise ValueError(f"loss kind {kind!r} is none of example, weighted, tokens")
