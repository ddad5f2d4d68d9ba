"""The plan of an attachment, which parts fill while they are placed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from methods.blocks.layer_factory import LayerFactory
from methods.core.contracts import ENCODER_INPUT, Diagnostics, EncoderInput, PeftExport, Penalty, UpdateListener
from methods.core.errors import MethodError
from methods.core.sites import Sites


@dataclass
class Placement:
    """What an attachment will do to a model. Nothing happens to the model before all parts have been placed.

    Attributes:
        model: the model, an HF BART or T5 or a wrapper around one.
        sites: named places in it.
        make: makes layers on its device and in its dtype.
        modules: what will stand below ``model.pet``, by name.
        hook_registrations: each registers one hook when called and returns torch's handle of it.
        model_changes: for what hooks cannot do. Each changes the model when called and returns what undoes the change;
            one that raises must have undone what it did.
        merge_steps: each folds one module into the model's own weights (:meth:`methods.core.handle.Handle.merge`).
        penalties: see :meth:`add_penalty`.
        update_listeners: see :meth:`listen_to_updates`.
        peft_export: see :meth:`set_peft_export`.
        diagnostics: see :meth:`add_diagnostics`.
        prepared: what the part that is placed now has computed from training data
            (:meth:`methods.core.part.Part.prepare`); None where no data were given.
    """

    model: Any
    sites: Sites
    make: LayerFactory
    modules: dict[str, nn.Module] = field(default_factory=dict)
    hook_registrations: list[Callable[[], Any]] = field(default_factory=list)
    model_changes: list[Callable[[], Callable[[], None]]] = field(default_factory=list)
    merge_steps: list[Callable[[], None]] = field(default_factory=list)
    penalties: list[Penalty] = field(default_factory=list)
    update_listeners: list[UpdateListener] = field(default_factory=list)
    peft_export: PeftExport | None = None
    diagnostics: list[Diagnostics] = field(default_factory=list)
    prepared: Mapping[str, Tensor] | None = None

    def add_module(self, key: str, module: nn.Module) -> None:
        """Put ``module`` below ``model.pet`` under the name ``key``, or ``key_2``, ``key_3``, ... where that is taken.

        The name is part of the names of the module's tensors in saved files.
        """
        count, name = 1, key
        while name in self.modules:
            count += 1
            name = f"{key}_{count}"
        self.modules[name] = module

    def add_penalty(self, module: Penalty) -> None:
        """Have training add ``module.penalty()`` to the loss."""
        self.penalties.append(module)

    def listen_to_updates(self, module: UpdateListener) -> None:
        """Have training call ``module.after_update(step, total_steps)`` after every update."""
        self.update_listeners.append(module)

    def set_encoder_input(self, module: EncoderInput) -> None:
        """Put ``module`` (also an ``nn.Module``) in charge of the encoder's input, below ``model.pet`` as ``input``.

        Raises MethodError where another part has done so already.
        """
        if ENCODER_INPUT in self.modules:
            raise MethodError("two parts of this method want to make the encoder's input; a method can have one")
        assert isinstance(module, nn.Module)
        self.modules[ENCODER_INPUT] = module

    def set_peft_export(self, module: PeftExport) -> None:
        """Have :meth:`methods.core.handle.Handle.export_peft` write what ``module.peft_file()`` returns."""
        self.peft_export = module

    def add_diagnostics(self, module: Diagnostics) -> None:
        """Have :meth:`methods.core.handle.Handle.diagnostics` report what ``module.diagnostics()`` returns."""
        self.diagnostics.append(module)

    def before_forward(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Plan a call of ``hook(module, args, kwargs)`` before each call of ``module``; what it returns, unless it is
        None, takes the place of ``args, kwargs``."""
        self.hook_registrations.append(lambda: module.register_forward_pre_hook(hook, with_kwargs=True))

    def observe_input(self, module: nn.Module, observer: Callable[[Tensor], None], keyword: str | None = None) -> None:
        """Plan a call of ``observer(tensor)`` before each call of ``module``, with that call's first argument or with
        the one called ``keyword``."""
        self.before_forward(module, InputObserver(observer, keyword))

    def after_forward(self, module: nn.Module, hook: Callable[..., Any], *, always: bool = False) -> None:
        """Plan a call of ``hook(module, args, kwargs, output)`` after each call of ``module``.

        ``module`` may be ``self.model`` itself; a hook that is a method of an object works in a deep copy of the
        model, where it belongs to a copy of the object. With ``always`` the hook is also called where ``module`` raises
        an error; ``output`` is None then.
        """
        self.hook_registrations.append(lambda: module.register_forward_hook(hook, with_kwargs=True, always_call=always))


@dataclass(frozen=True)
class InputObserver:
    """A forward pre-hook that passes one argument of the call on to ``observer``.

    It is a class and no closure so that a deep copy of a model observes the modules of the copy.
    """

    observer: Callable[[Tensor], None]
    keyword: str | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pass the argument on, and leave the call as it is."""
        self.observer(hidden_states(args, kwargs) if self.keyword is None else kwargs[self.keyword])


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the hidden states that one of HF's modules was called with."""
    return args[0] if args else kwargs["hidden_states"]
