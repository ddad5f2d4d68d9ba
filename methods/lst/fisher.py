"""The empirical Fisher information of a backbone's weights on training examples (Sung et al., 2022, ``fisher-v2``)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from methods.core.contracts import TrainingBatch
from methods.core.sites import Sites
from methods.lst.pruning import Importance, chain


def fisher_information(sites: Sites, examples: Iterator[TrainingBatch]) -> Importance:
    """Return the sum of squared gradients of every weight that :func:`methods.lst.pruning.kept_features` looks at.

    The loss is that of HF's language model on the text of one example at a time: the mean cross-entropy of the answer's
    tokens, without visual tokens, dropout and the example's weight. The importance is in float64, because products
    of three squared gradients leave the range of float32.

    Args:
        sites: the backbone, which is left as it was.
        examples: batches of one example each.
    """
    lm = sites.lm
    weights: list[Any] = [lm.get_input_embeddings().weight]
    for stack in ("enc", "dec"):
        modules = [module for step in chain(sites.shape.family, stack, sites.layers(stack)) for module in step]
        weights += [module.weight for module in modules if module.weight.dim() == 2]  # type: ignore[operator]
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    training, required = lm.training, [weight.requires_grad for weight in weights]
    lm.eval()
    for weight in weights:
        weight.requires_grad_(True)
    try:
        with torch.enable_grad():
            for example in examples:
                ids, labels = (tensor.to(weights[0].device) for tensor in (example.input_ids, example.labels))
                loss = lm(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, use_cache=False).loss
                for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                    total += gradient.float().square()
    finally:
        lm.train(training)
        for weight, before in zip(weights, required, strict=True):
            weight.requires_grad_(before)
    by_weight = {weight.data_ptr(): total for weight, total in zip(weights, sums, strict=True)}

    def importance(weight: Tensor) -> Tensor:
        return by_weight[weight.data_ptr()].double()

    return importance
