"""Visual tokens that are kept apart from the text and fused into it at sites (ADEM-VL)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from methods.blocks.layer_factory import STD, LayerFactory
from methods.core import context
from methods.core.errors import MethodError


@dataclass
class FusedOutput(BaseModelOutput):
    """The encoder's states of the text, ``b t d``, and what of the visual tokens goes to the decoder's sites, as in
    :class:`Fused`. Generation repeats all of them for its beams."""

    key: Tensor | None = None
    value: Tensor | None = None
    seen: Tensor | None = None
    cut: Tensor | None = None


class Fused(NamedTuple):
    """What sites need of a batch's visual tokens: ``key`` b m d, 0 where a slot is padding, so that its scores are;
    ``value`` b m d; ``seen`` b m, where it is none; ``cut`` b, the rank of the score that others must reach."""

    key: Tensor
    value: Tensor
    seen: Tensor
    cut: Tensor


class Apart(nn.Module):
    """Keeps visual tokens out of the encoder's input and has them ready for the sites; stands in a wrapper's ``pet`` as
    ``input``.

    An image whose tokens are a grid as wide as the first of ``grids`` gets the others, average-pooled, behind its own;
    any other visual input is its tokens alone. From tokens V and position tables e_1, e_2, which have a row for every
    token of an image, come the keys ``silu(beta · V + e_1)`` and the values ``beta · V + e_2``.
    """

    def __init__(self, grids: tuple[int, ...], beta: float, drop: float, most: int, d: int, make: LayerFactory) -> None:
        """``most`` is the largest number of tokens that an image (or video) has."""
        super().__init__()
        self.grids = grids
        self.beta = beta
        self.drop = drop
        rows = max(most, sum(g * g for g in grids)) if grids and grids[0] ** 2 <= most else most
        self.key_positions = make.normal(rows, d, std=STD)
        self.value_positions = make.normal(rows, d, std=0.0)
        self._real: Tensor | None = None  # of the features that the projector works on
        self._now: Fused | None = None  # of the text that the encoder works on

    def see(self, features: Tensor) -> None:
        """Take which slots ``b k v`` of k images are real, from what goes into the projector: padding is rows of 0."""
        real = (features != 0).any(dim=-1)
        self._real = real if real.dim() == 3 else real.unsqueeze(1)

    def forward(
        self, join: Callable[..., Any], encoder: nn.Module, ids: Tensor, mask: Tensor, visual: Tensor
    ) -> tuple[FusedOutput, Tensor]:
        """What ``join`` gives for the text alone, with the visual tokens beside it."""
        assert self._real is not None
        fused = self.fuse(visual.unflatten(1, self._real.shape[1:]), self._real)
        self._real, self._now = None, fused
        try:
            with context.visual(0):
                states, mask = join(encoder, ids, mask, visual[:, :0])
        finally:
            self._now = None
        return FusedOutput(states, **fused._asdict()), mask

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tie the visual tokens to the encoder states with which they enter the language model (a hook)."""
        outputs = kwargs.get("encoder_outputs")
        if isinstance(outputs, FusedOutput):
            states: Any = outputs.last_hidden_state
            states._fused = Fused(*(outputs[name] for name in Fused._fields))

    def fuse(self, tokens: Tensor, real: Tensor) -> Fused:
        """From tokens ``b k v d`` of k images, of which ``real`` b k v are no padding."""
        tokens, real = self.pooled(tokens, real)
        tokens, count = self.beta * tokens, tokens.shape[2]
        keys, values = tokens + self.key_positions[:count], tokens + self.value_positions[:count]
        seen = real.flatten(1)
        ranks = torch.tensor([int(self.drop * n) for n in range(seen.shape[1] + 1)], device=seen.device)
        keys = F.silu(keys).flatten(1, 2) * seen.unsqueeze(-1)
        return Fused(keys, values.flatten(1, 2), seen, ranks[seen.sum(dim=1)])

    def pooled(self, tokens: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``b k v d`` and ``b k v`` with those of the coarser grids behind, where they are such a grid."""
        count = tokens.shape[2]
        if not self.grids or count != self.grids[0] ** 2:
            return tokens, real
        side = (self.grids[0], self.grids[0])
        grid = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, side)
        cells = real.flatten(0, 1).to(grid.dtype).unflatten(1, side)
        coarse = [F.adaptive_avg_pool2d(grid, g).flatten(2).transpose(1, 2) for g in self.grids[1:]]
        covered = [F.adaptive_max_pool2d(cells, g).flatten(1) > 0 for g in self.grids[1:]]
        images = tokens.shape[:2]
        return (
            torch.cat([tokens, *(t.unflatten(0, images) for t in coarse)], dim=2),
            torch.cat([real, *(c.unflatten(0, images) for c in covered)], dim=2),
        )

    def of(self, states: Any) -> Fused:
        """The visual tokens that belong to what an encoder layer works on, or to the encoder's result.

        They are tied to that very tensor, so that gradient checkpointing finds them when it runs a layer again.
        Raises MethodError where there are none, because the language model was called without its wrapper.
        """
        fused = getattr(states, "_fused", self._now)
        if fused is None:
            raise MethodError("where visual tokens are fused call the wrapper (model, model.generate), not its model")
        states._fused = fused
        return fused


class Fusion(nn.Module):
    """``alpha · S · values`` with the scores ``S = silu(u) · keysᵀ``, of which a token keeps those that are not among
    its lowest: neither softmax nor matrices of its own."""

    def __init__(self, apart: Apart, alpha: float) -> None:
        super().__init__()
        self._apart = (apart,)  # not a submodule: all sites have the same
        self.alpha = alpha
        self.fused: Fused | None = None

    def see(self, states: Tensor) -> None:
        """Take the visual tokens of what an encoder layer, or cross-attention, works on."""
        self.fused = self._apart[0].of(states)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``."""
        fused, self.fused = self.fused, None
        assert fused is not None
        scores = F.silu(u.to(fused.key.dtype)) @ fused.key.transpose(1, 2)
        if self._apart[0].drop and scores.shape[2]:
            ranked = scores.detach().masked_fill(~fused.seen.unsqueeze(1), torch.inf).sort(dim=2).values
            least = ranked.gather(2, fused.cut.view(-1, 1, 1).expand(-1, scores.shape[1], 1))
            scores = scores * (scores >= least)
        return self.alpha * (scores @ fused.value)
