"""Frozen weights in the precision in which they are used."""

from collections import Counter

import torch
from torch import nn


def hold_in_bf16(model: nn.Module) -> None:
    """Convert the frozen weights and biases of a model's linear layers to bfloat16, which is what autocast makes of
    them at every use.

    Results stay what they are bit for bit, half of the memory of these weights is saved, and nothing is converted in
    a step. What two layers share (an output layer with the embeddings, which are looked up in float32) stays as it
    is, and so do layers that a library of methods has wrapped, which may read the weight.
    """
    users = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    for owner in (module for module in model.modules() if type(module).__module__.startswith("transformers.")):
        for layer in (child for child in owner.children() if type(child) is nn.Linear):
            for parameter in layer.parameters(recurse=False):
                if users[id(parameter)] == 1 and not parameter.requires_grad:
                    parameter.data = parameter.data.to(torch.bfloat16)
