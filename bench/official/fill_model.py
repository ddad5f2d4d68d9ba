"""Filling a model of this suite from an official state dict, and saying what does not fit."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.official.tensor_names import Names
from methods.core.errors import summarise_names

if TYPE_CHECKING:
    from torch import Tensor

    from bench.backbones import VLModel


def fill(model: "VLModel", tensors: Mapping[str, "Tensor"], names: Names, method: str) -> None:
    """Copy every tensor into the model.

    Raises:
        UsageError: tensors are missing, left over, of another shape, or differ where they must be equal.
    """
    import torch

    buffers = {name for name, _ in model.named_buffers()}
    places: list[tuple[Tensor, tuple[str, ...]]] = []
    for name, tensor in model.state_dict().items():
        source = names.source(name)
        if name not in buffers or source[0][0] in tensors:
            places += zip(_slots(model, name, tensor, len(source)), source, strict=True)

    missing, shapes, unequal = [], [], []
    for slot, copies in reversed(places):  # backwards, so that of tied tensors the first, the embedding, has its way
        fitting = [name for name in copies if name in tensors and tensors[name].shape == slot.shape]
        if fitting:
            slot.copy_(tensors[fitting[0]])
    for slot, copies in places:
        for name in copies:
            if name not in tensors:
                missing.append(name)
            elif tensors[name].shape != slot.shape:
                shapes.append(f"{name} {list(tensors[name].shape)} instead of {list(slot.shape)}")
            elif not torch.equal(tensors[name].to(slot), slot):
                unequal.append(name)
    used = {name for _, copies in places for name in copies}
    faults = [
        *summarise_names("missing", missing),
        *summarise_names("left over", [name for name in tensors if name not in used]),
        *summarise_names("of another shape", shapes),
        *summarise_names("unlike the tensor they are tied to or shared with", unequal),
    ]
    if faults:
        raise UsageError(f"the state dict is not that of an official {method} on {names.family}: {'; '.join(faults)}")


def _slots(model: "VLModel", name: str, tensor: "Tensor", pieces: int) -> "Iterable[Tensor]":
    """Views of the parts of a tensor that are tensors of their own in the official code."""
    from methods.blocks.bottleneck import Pairs

    if isinstance(model.get_submodule(name.rpartition(".")[0]), Pairs):
        return tensor
    return tensor.unflatten(0, (pieces, -1)) if pieces > 1 else [tensor]
