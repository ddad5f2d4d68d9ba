"""Attaching a method to a model: build everything first, then freeze, register modules and hooks in one go.

New modules go into a ModuleDict ``pet`` at the top of the model, never inside HF's modules, and act by forward hooks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from methods.blocks.lowrank_projector import LowRankProjector
from methods.core import context
from methods.core.errors import MethodError
from methods.core.handle import Handle
from methods.core.placement import Placement
from methods.core.preparation import of_part
from methods.core.recompute import remember_origin
from methods.core.registry import ResolvedMethod, get
from methods.core.sites import Sites, feature_linear, is_norm
from methods.core.spec import Part, Projector, Spec
from methods.core.start_values import layer_factory


def attach(
    model: Any,
    method: str | ResolvedMethod | Spec,
    *,
    tasks: tuple[str, ...] = context.TASKS,
    prepared: Mapping[str, Tensor] | None = None,
) -> Handle:
    """Put a method into a model, and leave trainable exactly what the method trains.

    New modules are made on the model's device and in its dtype, with start values drawn from torch's global generator.

    Args:
        model: an HF BART or T5, or a wrapper with one as ``.lm`` and a projector as ``.visual_embedding``.
        method: the name of a registered method, what :func:`methods.get` returned, or a spec.
        tasks: the names of the tasks for which a method with weights per task has weights.
        prepared: what :func:`methods.core.preparation.prepare` returned. Without it a part that needs training data
            (:meth:`methods.core.part.Part.prepare`) has other start values, which is right where weights are loaded.

    Raises:
        MethodError: a method is attached already, or this one does not fit the model. The model is as it was.
    """
    lm = getattr(model, "lm", model)
    if hasattr(model, "pet"):
        raise MethodError("a method is attached to this model already; detach it first (handle.detach())")
    sites = Sites(lm, getattr(model, "visual_embedding", None))
    resolved = get(method) if isinstance(method, str) else method
    spec = resolved if isinstance(resolved, Spec) else resolved.spec(sites.shape)
    spec.check(sites.shape)
    if not hasattr(model, "encode") and spec.needs_wrapper:
        raise MethodError("this method acts on the joint input of a vision-language wrapper (bench.backbones.build)")
    make = layer_factory(sites.shape.family, reference=next(lm.parameters()), tasks=tasks)
    placement = Placement(model, sites, make)
    for norm in filter(is_norm, lm.modules()):
        placement.after_forward(norm, remember_origin)  # before hooks of parts, which may change what a norm returns
    decay: dict[nn.Parameter, bool] = {}
    for index, part in enumerate(spec.parts):
        placement.prepared = of_part(prepared, index) if prepared is not None and part.training_examples else None
        present = set(placement.modules)
        part.place(placement)
        added = [module for key, module in placement.modules.items() if key not in present]
        decay |= _stated_decay(part, added, tasks)
    place_projector(spec.projector, placement)
    trained = _trained_of_the_model(model, sites, spec)
    if not trained and not placement.modules and not placement.model_changes:
        raise MethodError("this method leaves nothing to train on this model: it has no part, and trains nothing of it")

    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    undo: list[Callable[[], None]] = []
    handle = Handle(model, lm, spec, placement, undo=undo, before=before, decay=decay)
    try:
        # Freezing comes first: changes of the model may ask which of its parameters are trained.
        for parameter in before:
            parameter.requires_grad_(parameter in trained)
        for change in placement.model_changes:
            undo.append(change())
    except Exception:
        handle.detach()
        raise
    model.pet = nn.ModuleDict(placement.modules).train(model.training)
    undo += [register().remove for register in placement.hook_registrations]
    return handle


def _stated_decay(part: Part, modules: list[nn.Module], tasks: tuple[str, ...]) -> dict[nn.Parameter, bool]:
    """Return what a part states about the weight decay of the parameters of its modules."""
    stated = part.official_decay
    return {
        parameter: stated[plain]
        for module in modules
        for name, parameter in module.named_parameters()
        if (plain := ".".join(word for word in name.split(".") if word not in tasks)) in stated
    }


def _trained_of_the_model(model: Any, sites: Sites, spec: Spec) -> set[nn.Parameter]:
    """Return which of the model's own parameters are trained."""
    backbone = list(sites.lm.parameters())
    norms_and_biases = {*sites.norms(spec.trainable.norms), *sites.biases(spec.trainable.biases)}
    trained = set(backbone) if spec.trainable.backbone else norms_and_biases
    if spec.projector.train != "frozen" and hasattr(model, "visual_embedding"):
        # The projector may look object positions up in the word embedding, which stays the backbone's.
        trained |= set(model.visual_embedding.parameters()) - set(backbone)
    return trained


def place_projector(projector: Projector, placement: Placement) -> None:
    """Plan the replacement of the projector's first Linear, the one on the features, by a low-rank map."""
    if projector.train != "lowrank" or placement.sites.visual is None:
        return
    visual = placement.sites.visual
    name, linear = feature_linear(visual)
    parent_name, _, child_name = name.rpartition(".")
    parent = visual.get_submodule(parent_name)
    new = LowRankProjector(linear.in_features, projector.r, linear.out_features, projector.gate, placement.make)

    def replace() -> Callable[[], None]:
        parent.register_module(child_name, new)
        return lambda: parent.register_module(child_name, linear)

    placement.model_changes.append(replace)
