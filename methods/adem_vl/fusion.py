"""Visual tokens that are kept out of the encoder's input and fused into the text at sites (ADEM-VL)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from methods.blocks.layer_factory import STD, LayerFactory
from methods.core import context, replay
from methods.core.errors import MethodError

FACT = "visual keys and values"  # its name in methods.core.replay


class VisualKeys(NamedTuple):
    """What the sites need of the visual tokens of a batch.

    ``key`` b m d, 0 where a slot is padding, so that its scores are 0; ``value`` b m d; ``token_mask`` b m, False where
    a slot is padding; ``cut`` b, the rank of the score that the others must reach.
    """

    key: Tensor
    value: Tensor
    token_mask: Tensor
    cut: Tensor


@dataclass
class FusionOutput(BaseModelOutput):
    """The encoder's states of the text, ``b t d``, and the fields of :class:`VisualKeys` for the decoder's sites.
    Generation repeats all of them for its beams."""

    key: Tensor | None = None
    value: Tensor | None = None
    token_mask: Tensor | None = None
    cut: Tensor | None = None


class VisualMemory(nn.Module):
    """Keeps visual tokens out of the encoder's input and makes of them what the sites fuse
    (:class:`methods.core.contracts.EncoderInput`).

    An image whose tokens are a grid of side ``grids[0]`` gets average-pooled copies of the other sides behind its own;
    any other visual input consists of its tokens alone. From tokens V and position tables e_1 and e_2, which have a row
    for every token of an image, come the keys ``silu(beta · V + e_1)`` and the values ``beta · V + e_2``.
    ``most_tokens`` is the largest number of tokens that an image or video has.
    """

    def __init__(
        self, grids: tuple[int, ...], beta: float, drop: float, most_tokens: int, d: int, make: LayerFactory
    ) -> None:
        super().__init__()
        self.grids = grids
        self.beta = beta
        self.drop = drop
        has_grids = bool(grids) and grids[0] ** 2 <= most_tokens
        rows = max(most_tokens, sum(g * g for g in grids)) if has_grids else most_tokens
        self.key_positions = make.normal(rows, d, std=STD)
        self.value_positions = make.normal(rows, d, std=0.0)
        self._filled: Tensor | None = None  # which slots of the features in the projector are no padding
        self._keys: VisualKeys | None = None  # of the batch whose text is in the encoder

    def store_padding(self, features: Tensor) -> None:
        """Keep which slots ``b k v`` of k images are no padding, from the projector's input: padding is rows of 0."""
        filled = (features != 0).any(dim=-1)
        self._filled = filled if filled.dim() == 3 else filled.unsqueeze(1)

    def forward(
        self,
        join: Callable[..., Any],
        encoder: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        visual_tokens: Tensor,
    ) -> tuple[FusionOutput, Tensor]:
        """Encode the text alone, while the sites fuse the visual tokens into it."""
        assert self._filled is not None
        keys = self.keys(visual_tokens.unflatten(1, self._filled.shape[1:]), self._filled)
        self._filled, self._keys = None, keys
        try:
            with context.visual(0):
                states, mask = join(encoder, input_ids, attention_mask, visual_tokens[:, :0])
        finally:
            self._keys = None
        return FusionOutput(states, **keys._asdict()), mask

    def remember_encoder_outputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tie the visual keys to the encoder states with which they enter the language model (a hook)."""
        outputs = kwargs.get("encoder_outputs")
        if isinstance(outputs, FusionOutput):
            states: Any = outputs.last_hidden_state
            replay.remember(states, FACT, VisualKeys(*(outputs[name] for name in VisualKeys._fields)))

    def keys(self, tokens: Tensor, filled: Tensor) -> VisualKeys:
        """Make keys and values of tokens ``b k v d`` of k images, of which ``filled`` b k v are no padding."""
        tokens, filled = self.with_coarser_grids(tokens, filled)
        tokens, count = self.beta * tokens, tokens.shape[2]
        keys, values = tokens + self.key_positions[:count], tokens + self.value_positions[:count]
        token_mask = filled.flatten(1)
        ranks = torch.tensor([int(self.drop * n) for n in range(token_mask.shape[1] + 1)], device=token_mask.device)
        keys = F.silu(keys).flatten(1, 2) * token_mask.unsqueeze(-1)
        return VisualKeys(keys, values.flatten(1, 2), token_mask, ranks[token_mask.sum(dim=1)])

    def with_coarser_grids(self, tokens: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens ``b k v d`` and mask ``b k v`` with those of the coarser grids behind, where they are a grid of
        the first side length."""
        count = tokens.shape[2]
        if not self.grids or count != self.grids[0] ** 2:
            return tokens, filled
        side = (self.grids[0], self.grids[0])
        grid = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, side)
        cells = filled.flatten(0, 1).to(grid.dtype).unflatten(1, side)
        coarse = [F.adaptive_avg_pool2d(grid, g).flatten(2).transpose(1, 2) for g in self.grids[1:]]
        coarse_filled = [F.adaptive_max_pool2d(cells, g).flatten(1) > 0 for g in self.grids[1:]]
        images = tokens.shape[:2]
        return (
            torch.cat([tokens, *(t.unflatten(0, images) for t in coarse)], dim=2),
            torch.cat([filled, *(c.unflatten(0, images) for c in coarse_filled)], dim=2),
        )

    def keys_of(self, states: Tensor) -> VisualKeys:
        """Return the visual keys of the batch that ``states`` belong to, the input of an encoder layer or the encoder's
        result.

        They are tied to that very tensor, so that they are there when gradient checkpointing runs a layer again.
        Raises MethodError where there are none, because the language model was called without its wrapper.
        """
        keys = replay.recall(states, FACT, self._keys)
        if keys is None:
            raise MethodError("where visual tokens are fused call the wrapper (model, model.generate), not its model")
        replay.remember(states, FACT, keys)
        return keys


class FusionBlock(nn.Module):
    """``alpha · S · values`` with the scores ``S = silu(u) · keysᵀ``, of which a token's lowest are set to 0; there is
    neither a softmax nor a matrix."""

    def __init__(self, memory: VisualMemory, alpha: float) -> None:
        super().__init__()
        self._memory = (memory,)  # in a tuple, so that it is no submodule: all sites share it
        self.alpha = alpha
        self.keys: VisualKeys | None = None

    def recall_keys(self, states: Tensor) -> None:
        """Keep the visual keys that belong to the input of an encoder layer or of cross-attention."""
        self.keys = self._memory[0].keys_of(states)

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``."""
        keys, self.keys = self.keys, None
        assert keys is not None
        scores = F.silu(u.to(keys.key.dtype)) @ keys.key.transpose(1, 2)
        if self._memory[0].drop and scores.shape[2]:
            ranked = scores.detach().masked_fill(~keys.token_mask.unsqueeze(1), torch.inf).sort(dim=2).values
            least = ranked.gather(2, keys.cut.view(-1, 1, 1).expand(-1, scores.shape[1], 1))
            scores = scores * (scores >= least)
        return self.alpha * (scores @ keys.value)
