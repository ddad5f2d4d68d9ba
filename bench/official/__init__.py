"""Reading state dicts of the official code (VL-PET, VL-Adapter, LST) into this suite's models.

The model is built and the method attached as for any run, with the method's sizes read off the tensors (``sizes``);
then every tensor of the model is looked up under the name it has in the official code (``names``). What that code
repeats (tied embeddings, one module registered once per task) must be equal, what it splits (heads) is put together.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import methods
from bench import backbones
from bench.errors import UsageError
from bench.official import option_inference
from bench.official.fill_model import fill
from bench.official.method_names import READABLE, called, shared_as
from bench.official.tensor_names import Names
from methods.core.context import TASKS
from methods.core.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.backbones import VLModel

__all__ = ["READABLE", "TASKS", "Loaded", "load", "read"]


@dataclass(frozen=True)
class Loaded:
    """A model read from an official state dict, the method in it with the options that were read, and its handle."""

    model: "VLModel"
    chosen: methods.ResolvedMethod
    handle: "methods.Handle"


def load(
    state_dict: Mapping[str, Any],
    *,
    backbone: Any,
    method: "str | methods.ResolvedMethod",
    feat_dim: int,
    tasks: tuple[str, ...] = TASKS,
) -> "VLModel":
    """Build the model that an official state dict belongs to, in eval mode, with ``requires_grad`` as officially.

    Args:
        state_dict: arrays or tensors under their official names, with or without the prefix ``module.`` of a
            distributed training.
        backbone: a backbone's name or an HF configuration; the vocabulary is that of the state dict.
        method: the name of a method with an official counterpart (``READABLE``), ours or the official one; or a method
            with overrides, for what tensors do not tell (scales, LoRA's alpha, gates that an ablation changed).
        feat_dim: columns of the visual features.
        tasks: the tasks under whose names modules stand.

    Raises:
        UsageError: the method has no counterpart, or tensors are missing, left over, of another shape, or differ where
            they must be equal; the message names them.
    """
    return read(state_dict, backbone=backbone, method=method, feat_dim=feat_dim, tasks=tasks).model


def read(
    state_dict: Mapping[str, Any],
    *,
    backbone: Any,
    method: "str | methods.ResolvedMethod",
    feat_dim: int,
    tasks: tuple[str, ...] = TASKS,
) -> Loaded:
    """As :func:`load`, with the method's options and handle beside the model."""
    asked = called(method)
    tensors = _tensors(state_dict)
    config = _config(backbone, tensors, feat_dim)
    model = backbones.build(config, feat_dim=feat_dim)
    found = option_inference.read(tensors, tasks)
    name = shared_as(asked, found["share"]) if "share" in asked.entry.types else asked.name
    known = methods.get(name).entry.types
    options = {key: value for key, value in found.items() if key in known} | asked.overrides
    try:
        chosen = methods.get(name, **options)
        handle = methods.attach(model, chosen, tasks=tasks)
    except MethodError as error:
        raise UsageError(f"the sizes in the official state dict do not go together: {error}") from error
    every = chosen.options(methods.Shape.of(config))
    names = Names(
        model.family,
        tasks,
        heads=option_inference.Heads.read(tensors, option_inference.MODULES),
        projector=option_inference.Heads.read(tensors, option_inference.PROJECTOR),
        gate=every.get("gate", "none"),
        decoder=every.get("decoder", "none"),
        structured=bool(every.get("phm") or every.get("factor")),
        rule=every.get("phm_shared", False),
    )
    fill(model, tensors, names, name)
    return Loaded(model.eval(), chosen, handle)


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, "Tensor"]:
    """Tensors under their names in the model, without the prefix that a wrapper for distributed training adds."""
    import torch

    prefix = "module." if all(name.startswith("module.") for name in state_dict) else ""
    return {
        name.removeprefix(prefix): v.detach() if torch.is_tensor(v) else torch.tensor(v)
        for name, v in state_dict.items()
    }


def _config(backbone: Any, tensors: Mapping[str, "Tensor"], feat_dim: int) -> Any:
    """The backbone's configuration with the vocabulary of the state dict, which holds the added tokens."""
    if isinstance(backbone, str):
        backbone = backbones.build(backbone, feat_dim=feat_dim, device="meta").lm.config
    config = deepcopy(backbone)
    words = "model.shared.weight" if backbones.family_of(config).name == "bart" else "shared.weight"
    if words not in tensors:
        raise UsageError(f"no official state dict of a {config.model_type} model: it has no {words}")
    config.vocab_size = len(tensors[words])
    return config
