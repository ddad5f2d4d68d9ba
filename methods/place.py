"""Spec and model in, method in place: build everything first, then freeze, register and hook in one go.

Modules go into a ModuleDict ``pet`` at the top of the model, never inside HF's modules, and act by forward hooks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from methods.blocks.init import Maker
from methods.blocks.patched import Patched
from methods.errors import MethodError
from methods.handle import Handle
from methods.registry import Chosen, get
from methods.sites import Port, Sites
from methods.spec import Patch, Spec, Trainable

MASKED = -1e3  # scores are masked by adding a far lower number


@dataclass
class Placement:
    """The plan of an attachment: parts add modules and hooks to it; the model is changed only once it is complete."""

    sites: Sites
    make: Maker
    modules: dict[str, nn.Module] = field(default_factory=dict)
    hooks: list[Callable[[], Any]] = field(default_factory=list)  # each registers one hook and returns its handle

    def add(self, key: str, module: nn.Module) -> None:
        """Put ``module`` under ``pet.KEY`` (``KEY_2``, ... where the key is taken)."""
        count, unique = 1, key
        while unique in self.modules:
            count += 1
            unique = f"{key}_{count}"
        self.modules[unique] = module

    def before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Plan ``hook(module, args, kwargs)`` before each call of ``module``."""
        self.hooks.append(lambda: module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Plan ``hook(module, args, kwargs, output)`` after each call of ``module``."""
        self.hooks.append(lambda: module.register_forward_hook(hook, with_kwargs=True))


def attach(model: Any, method: str | Chosen | Spec) -> Handle:
    """Put a method into a model and leave trainable what the method trains.

    ``model`` is an HF BART or T5, or a wrapper with one as ``.lm`` and a projector as ``.visual_embedding``. New
    modules are made on the model's device and in its dtype, their values drawn from torch's global generator.

    Raises MethodError, with the model as it was, for a method that cannot be had there or a second method.
    """
    lm = getattr(model, "lm", model)
    if hasattr(model, "pet"):
        raise MethodError("a method is attached to this model already; detach it first (handle.detach())")
    sites = Sites(lm, getattr(model, "visual_embedding", None))
    chosen = get(method) if isinstance(method, str) else method
    spec = chosen if isinstance(chosen, Spec) else chosen.spec(sites.shape)
    first = next(lm.parameters())
    placement = Placement(sites, Maker(sites.shape.family, first.device, first.dtype))
    for part in spec.parts:
        part.place(placement)
    tuned = _tuned(model, sites, spec.trainable)
    if not tuned and not placement.modules:
        raise MethodError("this method leaves nothing to train on this model: it has no part, and trains nothing of it")

    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(parameter in tuned)
    model.pet = nn.ModuleDict(placement.modules).train(model.training)
    return Handle(model, lm, spec, hooks=[register() for register in placement.hooks], before=before)


def _tuned(model: Any, sites: Sites, trainable: Trainable) -> set[nn.Parameter]:
    """The model's own parameters that are trained."""
    backbone = list(sites.lm.parameters())
    tuned = set(backbone) if trainable.backbone else set(sites.norms(trainable.norms))
    if trainable.biases:
        tuned |= set(sites.biases())
    if trainable.visual_projector and hasattr(model, "visual_embedding"):
        # The projector may look object positions up in the word embedding, which stays the backbone's.
        tuned |= set(model.visual_embedding.parameters()) - set(backbone)
    return tuned


def place_patch(patch: Patch, placement: Placement) -> None:
    """Build a patch's module at each of its sites and plan the hooks that feed it."""
    reads_x = patch.delta is not None and patch.delta.input == "x"
    for site in patch.at:
        for port in placement.sites.ports(site, patch.layers):
            try:
                d_in = port.d_x if reads_x else port.d_h
                delta = patch.delta.build(d_in, port.d_h, placement.make) if patch.delta else None
                gate = patch.gate.build(port.d_x, port.d_h, placement.make) if patch.gate else None
            except MethodError as error:
                raise MethodError(f"at {site}: {error}") from error
            module = Patched(delta, gate, reads_x=reads_x, delta_scale=patch.delta_scale, scale=patch.scale)
            placement.add(port.key, module)
            hook = Hook(module, port)
            if port.x is not port.module:
                placement.before(port.x, hook.see_x)
            if patch.gate is not None and patch.gate.pool == "masked_mean" and port.layer is not None:
                placement.before(port.layer, hook.see_mask)
            if port.ahead:
                placement.before(port.module, hook.change_input)
            else:
                placement.after(port.module, hook.change_output)


class Hook:
    """Feeds X, H and the mask of one port to its module; X is held only until H of the same call is there."""

    def __init__(self, module: Patched, port: Port) -> None:
        self.module = module
        self.x_is_own_argument = port.x is port.module
        self.x: Tensor | None = None
        self.seen: Tensor | None = None

    def see_x(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take X on its way into the block."""
        self.x = _first(args, kwargs)

    def see_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the layer's attention mask, its second argument."""
        self.seen = _tokens(args[1] if len(args) > 1 else kwargs.get("attention_mask"))

    def change_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """H' in place of H, where H goes into ``module``."""
        return (self._changed(args, kwargs, args[0]), *args[1:]), kwargs

    def change_output(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """H' in place of H, where H is what ``module`` returns, alone or in front of other things."""
        if isinstance(output, tuple):
            return (self._changed(args, kwargs, output[0]), *output[1:])
        return self._changed(args, kwargs, output)

    def _changed(self, args: tuple[Any, ...], kwargs: dict[str, Any], h: Tensor) -> Tensor:
        x = _first(args, kwargs) if self.x_is_own_argument else self.x
        assert x is not None, "the block ran without its layer"
        self.x = None
        return self.module(x, h, self.seen)


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _tokens(mask: Tensor | None) -> Tensor | None:
    """Which positions are tokens, ``b n`` bool, from an attention mask.

    Per attention kernel HF passes it as ``b n``, as ``b 1 q k`` (bool, or added to the scores), or not at all.
    """
    if mask is None:
        return None
    if mask.is_floating_point() and mask.dim() == 4:
        mask = mask > MASKED
    return mask.bool() if mask.dim() == 2 else mask[:, 0].any(dim=1)
