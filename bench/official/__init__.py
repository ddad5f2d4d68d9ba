"""Reading state dicts of the official code (VL-PET, VL-Adapter, LST) into models of this suite.

The model is built and the method attached as for any run, with the options that are read off the tensors
(``option_inference``). Then every tensor of the model is looked up under its names in the official code
(``tensor_names``, ``fill_model``): tensors that this code repeats (tied embeddings, a module registered once per task)
must be equal, and heads, which are modules of their own there, are concatenated.
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
from bench.official.method_names import SUPPORTED, name_with_sharing, resolve_official_name
from bench.official.tensor_names import OfficialNames
from methods.core.context import TASKS
from methods.core.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.backbones import VLModel

__all__ = ["SUPPORTED", "TASKS", "OfficialModel", "load", "read"]


@dataclass(frozen=True)
class OfficialModel:
    """What was read from an official state dict.

    Attributes:
        model: the model with the method attached, in eval mode.
        method: the method, with the options that were read as overrides.
        handle: the handle of the attached method.
        names: says what the official code calls the model's tensors.
    """

    model: "VLModel"
    method: methods.ResolvedMethod
    handle: "methods.Handle"
    names: OfficialNames


def load(
    state_dict: Mapping[str, Any],
    *,
    backbone: Any,
    method: "str | methods.ResolvedMethod",
    feat_dim: int,
    tasks: tuple[str, ...] = TASKS,
) -> "VLModel":
    """Build the model of an official state dict, in eval mode; the parameters that require gradients are those that the
    official code trains.

    Args:
        state_dict: arrays or tensors under their official names, with or without the prefix ``module.`` of a
            distributed training.
        backbone: a backbone's name or an HF configuration; the vocabulary is that of the state dict.
        method: the name of a method in ``SUPPORTED``, ours or the official one; or a method with overrides, for options
            that tensors do not show (scales, LoRA's alpha, the gates of an ablation).
        feat_dim: number of columns of the visual features.
        tasks: the tasks under whose names modules are registered.

    Raises:
        UsageError: state dicts of this method cannot be read, or tensors are missing, left over, of another shape, or
            differ where they must be equal; the message names them.
    """
    return read(state_dict, backbone=backbone, method=method, feat_dim=feat_dim, tasks=tasks).model


def read(
    state_dict: Mapping[str, Any],
    *,
    backbone: Any,
    method: "str | methods.ResolvedMethod",
    feat_dim: int,
    tasks: tuple[str, ...] = TASKS,
) -> OfficialModel:
    """Do what :func:`load` does, and return the method with its options and its handle beside the model."""
    requested = resolve_official_name(method)
    tensors = _tensors(state_dict)
    config = _config(backbone, tensors, feat_dim)
    model = backbones.build(config, feat_dim=feat_dim)
    inferred = option_inference.infer_options(tensors, tasks)
    name = name_with_sharing(requested, inferred["share"]) if "share" in requested.entry.types else requested.name
    available = methods.get(name).entry.types
    options = {key: value for key, value in inferred.items() if key in available} | requested.overrides
    try:
        resolved = methods.get(name, **options)
        handle = methods.attach(model, resolved, tasks=tasks)
    except MethodError as error:
        raise UsageError(f"the sizes in the official state dict do not go together: {error}") from error
    all_options = resolved.options(methods.Shape.of(config))
    names = OfficialNames(
        model.family,
        tasks,
        heads=option_inference.HeadCounts.from_names(tensors, option_inference.ADAPTER),
        projector=option_inference.HeadCounts.from_names(tensors, option_inference.PROJECTOR),
        gate=all_options.get("gate", "none"),
        decoder=all_options.get("decoder", "none"),
        structured=bool(all_options.get("phm") or all_options.get("factor")),
        shared_rule=all_options.get("phm_shared", False),
    )
    fill(model, tensors, names, name)
    return OfficialModel(model.eval(), resolved, handle, names)


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, "Tensor"]:
    """Return the state dict as tensors, without the prefix that a wrapper or compilation adds to every name."""
    import torch

    from methods.core.handle import without_wrapper_prefix

    tensors = {name: v.detach() if torch.is_tensor(v) else torch.tensor(v) for name, v in state_dict.items()}
    return without_wrapper_prefix(tensors)[1]


def _config(backbone: Any, tensors: Mapping[str, "Tensor"], feat_dim: int) -> Any:
    """Return the backbone's configuration with the vocabulary of the state dict, which includes the added tokens."""
    if isinstance(backbone, str):
        backbone = backbones.build(backbone, feat_dim=feat_dim, device="meta").lm.config
    config = deepcopy(backbone)
    embedding = "model.shared.weight" if backbones.family_of(config).name == "bart" else "shared.weight"
    if embedding not in tensors:
        raise UsageError(f"no official state dict of a {config.model_type} model: it has no {embedding}")
    config.vocab_size = len(tensors[embedding])
    return config
