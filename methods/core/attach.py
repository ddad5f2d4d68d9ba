"""Spec and model in, method in place: build everything first, then freeze, register and hook in one go.

Modules go into a ModuleDict ``pet`` at the top of the model, never inside HF's modules, and act by forward hooks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from methods.blocks.folding import fold
from methods.blocks.layer_factory import LayerFactory
from methods.blocks.patched_site import Patched
from methods.core import context
from methods.core.errors import MethodError
from methods.core.handle import Handle
from methods.core.registry import ResolvedMethod, get
from methods.core.sites import Port, Sites
from methods.core.spec import Patch, Projector, Spec

MASKED = -1e3  # scores are masked by adding a far lower number


@dataclass
class Placement:
    """The plan of an attachment: parts add modules and hooks to it; the model is changed only once it is complete.

    ``changes`` are for what hooks cannot do: each changes the model when called, and returns what undoes it; one that
    raises has undone what it did.
    """

    model: Any
    sites: Sites
    make: LayerFactory
    modules: dict[str, nn.Module] = field(default_factory=dict)
    hooks: list[Callable[[], Any]] = field(default_factory=list)  # each registers one hook and returns its handle
    changes: list[Callable[[], Callable[[], None]]] = field(default_factory=list)
    folds: list[Callable[[], None]] = field(default_factory=list)  # each folds one module into the model's own weights

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

    def watch(self, module: nn.Module, see: Callable[[Tensor], None], keyword: str | None = None) -> None:
        """Plan ``see(tensor)`` before each call of ``module``, with its first argument or the one called so."""
        self.before(module, Watch(see, keyword))

    def after(self, module: nn.Module, hook: Callable[..., Any], *, always: bool = False) -> None:
        """Plan ``hook(module, args, kwargs, output)`` after each call of ``module``; with ``always`` also, its output
        None, where that raises."""
        self.hooks.append(lambda: module.register_forward_hook(hook, with_kwargs=True, always_call=always))


@dataclass(frozen=True)
class Watch:
    """A hook that shows one argument of a module; not a closure, so that a copied model watches its own modules."""

    see: Callable[[Tensor], None]
    keyword: str | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Show it."""
        self.see(first(args, kwargs) if self.keyword is None else kwargs[self.keyword])


def attach(model: Any, method: str | ResolvedMethod | Spec, *, tasks: tuple[str, ...] = context.TASKS) -> Handle:
    """Put a method into a model and leave trainable what the method trains.

    ``model`` is an HF BART or T5, or a wrapper with one as ``.lm`` and a projector as ``.visual_embedding``. New
    modules are made on the model's device and in its dtype, their values drawn from torch's global generator. ``tasks``
    are the names under which a method that holds weights per task holds them.

    Raises MethodError, with the model as it was, for a method that cannot be had there or a second method.
    """
    lm = getattr(model, "lm", model)
    if hasattr(model, "pet"):
        raise MethodError("a method is attached to this model already; detach it first (handle.detach())")
    sites = Sites(lm, getattr(model, "visual_embedding", None))
    chosen = get(method) if isinstance(method, str) else method
    spec = chosen if isinstance(chosen, Spec) else chosen.spec(sites.shape)
    spec.check(sites.shape)
    if not hasattr(model, "encode") and any(part.wrapped for part in spec.parts):
        raise MethodError("this method acts on the joint input of a vision-language wrapper (bench.backbones.build)")
    first = next(lm.parameters())
    placement = Placement(model, sites, LayerFactory(sites.shape.family, first.device, first.dtype, tasks))
    for part in spec.parts:
        part.place(placement)
    place_projector(spec.projector, placement)
    tuned = _tuned(model, sites, spec)
    if not tuned and not placement.modules and not placement.changes:
        raise MethodError("this method leaves nothing to train on this model: it has no part, and trains nothing of it")

    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    undo: list[Callable[[], None]] = []
    handle = Handle(model, lm, spec, undo=undo, folds=placement.folds, before=before)
    try:
        for parameter in before:
            parameter.requires_grad_(parameter in tuned)
        for change in placement.changes:
            undo.append(change())
    except Exception:
        handle.detach()
        raise
    model.pet = nn.ModuleDict(placement.modules).train(model.training)
    undo += [register().remove for register in placement.hooks]
    return handle


def _tuned(model: Any, sites: Sites, spec: Spec) -> set[nn.Parameter]:
    """The model's own parameters that are trained."""
    backbone = list(sites.lm.parameters())
    norms_and_biases = {*sites.norms(spec.trainable.norms), *sites.biases(spec.trainable.biases)}
    tuned = set(backbone) if spec.trainable.backbone else norms_and_biases
    if spec.projector.train != "frozen" and hasattr(model, "visual_embedding"):
        # The projector may look object positions up in the word embedding, which stays the backbone's.
        tuned |= set(model.visual_embedding.parameters()) - set(backbone)
    return tuned


def place_projector(projector: Projector, placement: Placement) -> None:
    """Put a low-rank map in the place of the projector's feature Linear, its first."""
    if projector.train != "lowrank" or placement.sites.visual is None:
        return
    from methods.blocks.lowrank_projector import LowRankProjector

    visual = placement.sites.visual
    name, linear = next((n, m) for n, m in visual.named_modules() if isinstance(m, nn.Linear))
    room = visual.get_submodule(name.rpartition(".")[0])
    new = LowRankProjector(linear.in_features, projector.r, linear.out_features, projector.gate, placement.make)

    def swap() -> Callable[[], None]:
        room.register_module(name.rpartition(".")[2], new)
        return lambda: room.register_module(name.rpartition(".")[2], linear)

    placement.changes.append(swap)


def place_patch(patch: Patch, placement: Placement) -> None:
    """Build a patch's module at each of its sites and plan the hooks that feed it."""
    shape, make = placement.sites.shape, placement.make
    delta_masked = patch.delta is not None and patch.delta.masked
    for site in patch.at:
        d_x, d_h = shape.widths(site)
        for port in placement.sites.ports(site, patch.layers):
            d_in = d_x if patch.delta is not None and patch.delta.input == "x" else d_h
            module = Patched(
                patch.delta.made(d_in, d_h, make) if patch.delta else None,
                patch.gate.build(d_x, d_h, make) if patch.gate else None,
                keep=patch.keep,
                h_scale=patch.h_scale,
                scale=patch.scale,
                plus_x=patch.plus_x,
                masked=delta_masked,
            )
            reads = patch.delta.input if patch.delta else "h"
            masked = delta_masked or (patch.gate is not None and patch.gate.pool == "masked_mean")
            feed = Hook(module, port, reads=reads, reads_x=patch.reads_x, masked=masked, routed=patch.routed)
            placement.add(port.key, module)
            if not patch.unused:
                feed.plan(placement)
            if patch.merges:
                placement.folds.append(partial(fold, module, port.module, ahead=port.ahead))


class Hook:
    """Feeds one port's module; what it sees on the way is held only until H of the same call is there.

    ``reads`` is what the delta reads (:class:`~methods.core.deltas.Delta`), ``reads_x`` whether X is wanted besides,
    ``masked`` the attention mask, ``routed`` what the context says: the task, and how many tokens are visual.
    """

    def __init__(
        self,
        module: Patched,
        port: Port,
        *,
        reads: str = "h",
        reads_x: bool = False,
        masked: bool = False,
        routed: bool = False,
    ) -> None:
        self.module = module
        self.port = port
        self.reads = reads
        self.reads_x = reads_x or reads in ("x", "block")
        self.masked = masked
        self.routed = routed
        self.x: Tensor | None = None
        self.normed: Tensor | None = None
        self.seen: Tensor | None = None
        self.task: str | None = None
        self.visual = 0

    def plan(self, placement: Placement) -> None:
        """Plan the hooks that this port needs."""
        port = self.port
        if self.reads_x and port.x is not port.module:
            placement.before(port.x, self.see_x)
        if self.reads == "x_norm" and port.normed is not None and port.normed is not port.module:
            placement.before(port.normed, self.see_normed)
        if self.masked and port.layer is not None:
            placement.before(port.start, self.see_mask)
        if self.routed and port.layer is not None:
            placement.watch(port.layer, remember)
            placement.watch(port.start, self.see_context)
        if port.ahead:
            placement.before(port.module, self.change_input)
        else:
            placement.after(port.module, self.change_output)

    def see_x(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take X on its way into the block."""
        self.x = first(args, kwargs)

    def see_normed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take X behind the block's norm."""
        self.normed = first(args, kwargs)

    def see_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the layer's attention mask."""
        self.seen = _tokens(kwargs.get("attention_mask"))

    def see_context(self, states: Tensor) -> None:
        """Take the task and number of visual tokens of the layer's own forward pass."""
        self.task, self.visual = getattr(states, "_seen_in", (context.current(), context.visual_tokens()))

    def change_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """H' in place of H, where H goes into ``module``."""
        name = self.port.keyword
        if name is not None:
            return args, kwargs | {name: self._changed(args, kwargs, kwargs[name])}
        return (self._changed(args, kwargs, args[0]), *args[1:]), kwargs

    def change_output(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """H' in place of H, where H is what ``module`` returns, alone or in front of other things."""
        if isinstance(output, tuple):
            return (self._changed(args, kwargs, output[0]), *output[1:])
        return self._changed(args, kwargs, output)

    def _changed(self, args: tuple[Any, ...], kwargs: dict[str, Any], h: Tensor) -> Tensor:
        x = self.x if self.x is not None else first(args, kwargs) if self.reads_x else h
        u = h
        if self.reads == "x":
            u = x
        elif self.reads == "x_norm":
            u = self.normed if self.normed is not None else first(args, kwargs)
        elif self.reads == "block":
            u = h + x if self.port.norm is None else self.port.norm(h + x)
        self.x = self.normed = None
        if not self.routed or self.port.layer is None:  # outside of layers nothing is run again
            return self.module(x, h, u, self.seen)
        with context.task(self.task), context.visual(self.visual):
            return self.module(x, h, u, self.seen)


def remember(states: Tensor) -> None:
    """Tie the current task and number of visual tokens to the tensor that a layer is given.

    Gradient checkpointing runs a layer again in the backward pass, outside of this context or in another, on the very
    tensors of the forward pass. Where it runs hooks on the layer again as well, nothing known is forgotten.
    """
    task, visual = getattr(states, "_seen_in", (None, 0))
    states._seen_in = context.current() or task, context.visual_tokens() or visual  # type: ignore[attr-defined]


def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states that a module of HF was called with."""
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
