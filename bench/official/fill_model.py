"""Copying an official state dict into a model of this suite, and reporting what does not fit."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.official.tensor_names import OfficialNames
from methods.core.errors import summarise_names

if TYPE_CHECKING:
    from torch import Tensor

    from bench.backbones import VLModel


def fill(model: "VLModel", tensors: Mapping[str, "Tensor"], names: OfficialNames, method: str) -> None:
    """Copy every tensor of an official state dict into the model.

    Args:
        model: the model, with the method attached.
        tensors: the state dict.
        names: says under which official names a tensor of the model can be found.
        method: name of the method, for the error message.

    Raises:
        UsageError: tensors are missing, left over, of another shape, or differ where they must be equal.
    """
    import torch

    buffers = {name for name, _ in model.named_buffers()}
    targets: list[tuple[Tensor, tuple[str, ...]]] = []  # a view of the model's tensor, and the names of its copies
    for name, tensor in model.state_dict().items():
        pieces = names.pieces_of(name)
        if name not in buffers or pieces[0][0] in tensors:
            targets += zip(_views(model, name, tensor, len(pieces)), pieces, strict=True)

    # Backwards, because tied tensors are written several times: the first one, the embedding, decides.
    for target, copies in reversed(targets):
        fitting = [name for name in copies if name in tensors and tensors[name].shape == target.shape]
        if fitting:
            target.copy_(tensors[fitting[0]])
    # Only now, with every tensor written, can the copies be compared with what the model has.
    missing, misshapen, unequal = [], [], []
    for target, copies in targets:
        for name in copies:
            if name not in tensors:
                missing.append(name)
            elif tensors[name].shape != target.shape:
                misshapen.append(f"{name} {list(tensors[name].shape)} instead of {list(target.shape)}")
            elif not torch.equal(tensors[name].to(target), target):
                unequal.append(name)
    used = {name for _, copies in targets for name in copies}
    faults = [
        *summarise_names("missing", missing),
        *summarise_names("left over", [name for name in tensors if name not in used]),
        *summarise_names("of another shape", misshapen),
        *summarise_names("unlike the tensor they are tied to or shared with", unequal),
    ]
    if faults:
        raise UsageError(f"the state dict is not that of an official {method} on {names.family}: {'; '.join(faults)}")


def _views(model: "VLModel", name: str, tensor: "Tensor", pieces: int) -> "Iterable[Tensor]":
    """Return views of the parts of a tensor that are tensors of their own in the official code: its heads."""
    from methods.blocks.bottleneck import BlockDiagonalLinear

    if isinstance(model.get_submodule(name.rpartition(".")[0]), BlockDiagonalLinear):
        return tensor
    return tensor.unflatten(0, (pieces, -1)) if pieces > 1 else [tensor]
