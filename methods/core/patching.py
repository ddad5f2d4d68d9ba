"""Hooks that let a module change what a site returns."""

from typing import Any

from torch import Tensor, nn

from methods.blocks.patched_site import PatchedSite
from methods.core import context, replay
from methods.core.placement import Placement, hidden_states
from methods.core.sites import Port

MASKED = -1e3  # positions are masked by adding a far lower number to the attention scores
CONTEXT = "task and visual tokens"  # the name of the fact in methods.core.replay


def place_site(
    placement: Placement,
    port: Port,
    module: PatchedSite,
    *,
    delta_input: str = "h",
    reads_x: bool = False,
    needs_token_mask: bool = False,
    needs_context: bool = False,
) -> None:
    """Put ``module`` below ``model.pet`` under the port's name and plan the hooks by which it changes H into H'.

    Args:
        placement: the plan of the attachment.
        port: one site of one layer.
        module: computes H'.
        delta_input: what its delta reads, in the words of :class:`methods.core.deltas.Delta`.
        reads_x: whether it reads X for anything besides the delta.
        needs_token_mask: whether it has to know which positions are padding.
        needs_context: whether it reads :mod:`methods.core.context`: the current task, or which tokens are visual.
    """
    placement.add_module(port.key, module)
    hooks = SiteHooks(
        module,
        port,
        delta_input=delta_input,
        reads_x=reads_x,
        needs_token_mask=needs_token_mask,
        needs_context=needs_context,
    )
    hooks.plan(placement)


class SiteHooks:
    """The hooks of one port. What they collect (X, the token mask, ...) is held until H of the same call is there."""

    def __init__(
        self,
        module: PatchedSite,
        port: Port,
        *,
        delta_input: str,
        reads_x: bool,
        needs_token_mask: bool,
        needs_context: bool,
    ) -> None:
        self.module = module
        self.port = port
        self.delta_input = delta_input
        self.reads_x = reads_x or delta_input in ("x", "block")
        self.needs_token_mask = needs_token_mask
        self.needs_context = needs_context and port.layer is not None  # outside of layers nothing is run again
        self.x: Tensor | None = None
        self.normed_x: Tensor | None = None
        self.token_mask: Tensor | None = None
        self.task: str | None = None
        self.visual = 0

    def plan(self, placement: Placement) -> None:
        """Plan the hooks that this port needs."""
        port = self.port
        if self.reads_x and port.x is not port.module:
            placement.before_forward(port.x, self.store_x)
        if self.delta_input == "x_norm" and port.normed is not None and port.normed is not port.module:
            placement.before_forward(port.normed, self.store_normed_x)
        if self.needs_token_mask and port.layer is not None:
            placement.before_forward(port.first_block, self.store_token_mask)
        if self.needs_context and port.layer is not None:
            placement.observe_input(port.layer, remember_context)
            placement.observe_input(port.first_block, self.recall_context)
        if port.ahead:
            placement.before_forward(port.module, self.change_input)
        else:
            placement.after_forward(port.module, self.change_output)

    def store_x(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep X, the input of the block."""
        self.x = hidden_states(args, kwargs)

    def store_normed_x(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep X after the block's norm."""
        self.normed_x = hidden_states(args, kwargs)

    def store_token_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the token mask of the layer."""
        self.token_mask = token_mask_of(kwargs.get("attention_mask"))

    def recall_context(self, states: Tensor) -> None:
        """Keep the task and the number of visual tokens of the forward pass in which the layer got ``states``."""
        present = (context.current_task(), context.visual_tokens())
        self.task, self.visual = replay.recall(states, CONTEXT, present)

    def change_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace H by H' where H is an argument of ``module``."""
        name = self.port.keyword
        if name is not None:
            return args, kwargs | {name: self._changed(args, kwargs, kwargs[name])}
        return (self._changed(args, kwargs, args[0]), *args[1:]), kwargs

    def change_output(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Replace H by H' where H is what ``module`` returns, alone or as the first item of a tuple."""
        if isinstance(output, tuple):
            return (self._changed(args, kwargs, output[0]), *output[1:])
        return self._changed(args, kwargs, output)

    def _changed(self, args: tuple[Any, ...], kwargs: dict[str, Any], h: Tensor) -> Tensor:
        x = self.x if self.x is not None else hidden_states(args, kwargs) if self.reads_x else h
        u = h
        if self.delta_input == "x":
            u = x
        elif self.delta_input == "x_norm":
            u = self.normed_x if self.normed_x is not None else hidden_states(args, kwargs)
        elif self.delta_input == "block":
            u = h + x if self.port.norm is None else self.port.norm(h + x)
        self.x = self.normed_x = None
        if not self.needs_context:
            return self.module(x, h, u, self.token_mask)
        with context.task(self.task), context.visual(self.visual):
            return self.module(x, h, u, self.token_mask)


def remember_context(states: Tensor) -> None:
    """Tie the current task and number of visual tokens to the tensor that a layer is given.

    Gradient checkpointing may run hooks on the layer again in the backward pass, where neither is set: what was
    remembered in the forward pass then stays.
    """
    task, visual = replay.recall(states, CONTEXT, (None, 0))
    replay.remember(states, CONTEXT, (context.current_task() or task, context.visual_tokens() or visual))


def token_mask_of(attention_mask: Tensor | None) -> Tensor | None:
    """Return which positions are tokens rather than padding, ``b n`` bool, from a layer's attention mask.

    Which form HF passes depends on the attention kernel: ``b n``; ``b 1 q k``, bool or added to the scores; or None.
    """
    if attention_mask is None:
        return None
    if attention_mask.is_floating_point() and attention_mask.dim() == 4:
        attention_mask = attention_mask > MASKED
    return attention_mask.bool() if attention_mask.dim() == 2 else attention_mask[:, 0].any(dim=1)
