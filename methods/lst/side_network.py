"""Ladder side-tuning: a narrow encoder-decoder beside a frozen one, which it climbs layer by layer.

    u <- D_0 drop(x);   u <- block_i(g_i u + (1 - g_i) D_i b_i),   g_i = σ(α_i / T);   logits = head(W_up drop(norm(u)))

where x is a stack's embedded input and b_i what the backbone's i-th layer gives out (Sung et al., 2022, and the LST
official code). The backbone reads text alone and keeps nothing for the backward pass; visual tokens enter the side
encoder only, where D_i b_i is 0 for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from methods.blocks.layer_factory import LayerFactory
from methods.core import context
from methods.core.errors import MethodError
from methods.core.sites import Sites, position_bias, position_table
from methods.lst.pruning import cut, follow, largest


@dataclass
class SideOutput(BaseModelOutput):
    """The backbone's states of the text, ``b t d``, and the side encoder's of text and visual tokens, ``b n d'``, with
    the mask of these, ``b n``. Generation repeats all of them for its beams."""

    side: Tensor | None = None
    side_mask: Tensor | None = None


@dataclass
class Attends:
    """What a stack's layers are called with besides their states; a T5 layer hands its biases on to the next."""

    mask: Tensor | None
    bias: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None
    memory_bias: Tensor | None = None
    cache: Any = None

    def t5(self, layer: nn.Module, u: Tensor) -> Tensor:
        """Call a T5 layer."""
        biases = (self.mask, self.bias, self.memory, self.memory_mask, self.memory_bias)
        u, self.bias, self.memory_bias = layer(u, *biases, past_key_values=self.cache)
        return u

    def bart(self, layer: nn.Module, u: Tensor) -> Tensor:
        """Call a BART layer."""
        if self.memory is None:
            return layer(u, self.mask)
        return layer(u, self.mask, self.memory, self.memory_mask, past_key_values=self.cache)


class Rung(nn.Module):
    """One layer of the side network, and the step onto it from the backbone's layer."""

    def __init__(self, d: int, block: nn.Module, width: int, temperature: float, make: LayerFactory) -> None:
        super().__init__()
        self.temperature = temperature
        self.gate = make.vector(1, "zeros")
        self.down = make.linear(d, width)
        self.block = block

    def mix(self, u: Tensor, b: Tensor) -> Tensor:
        """``g u + (1 - g) D b``; rows of ``u`` behind those of ``b`` get zeros."""
        g = torch.sigmoid(self.gate / self.temperature)
        step = self.down(b.to(self.down.weight.dtype))
        return g * u + (1 - g) * F.pad(step, (0, 0, 0, u.shape[1] - b.shape[1])).to(u.dtype)


class SideStack(nn.Module):
    """The side network's encoder or decoder, and what it has seen of the backbone's in the current call.

    Layers are HF's own. BART's, which end with a norm, are followed by none; dropout rates are the backbone's.
    """

    def __init__(self, sites: Sites, name: str, factor: int, temperature: float, make: LayerFactory) -> None:
        super().__init__()
        d, width = sites.shape.d, sites.shape.d // factor
        with make.device:
            layers, norm = sites.narrow(name, factor)
        self.family = sites.shape.family
        self.dropout = nn.Dropout(sites.dropout(name))
        self.first = make.linear(d, width)
        self.rungs = nn.ModuleList(Rung(d, layer, width, temperature, make) for layer in layers)
        self.norm = norm
        self.to(make.dtype)
        self.seen: list[Tensor] | None = None

    @property
    def layers(self) -> list[nn.Module]:
        """The side layers."""
        return [rung.block for rung in self.rungs]  # type: ignore[misc]

    def watch(self) -> None:
        """Begin to keep what :meth:`see` is given."""
        self.seen = []

    def see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Keep what the backbone's entrance and, after it, its layers give out (a hook)."""
        if self.seen is not None:
            self.seen.append(output[0] if isinstance(output, tuple) else output)

    def enter(self, visual: Tensor | None = None) -> Tensor:
        """``D_0 drop(x)``, ``b n d'``, of the text seen and of visual tokens ``b v d`` behind it."""
        assert self.seen is not None
        x = self.seen[0].to(self.first.weight.dtype)
        return self.first(self.dropout(x if visual is None else torch.cat([x, visual.to(x.dtype)], dim=1)))

    def climb(self, u: Tensor, attends: Attends) -> Tensor:
        """From the first states to the last, ``b n d'``, over all that was seen."""
        assert self.seen is not None
        features, self.seen = self.seen[1:], None
        call = attends.t5 if self.family == "t5" else attends.bart
        for rung, b in zip(self.rungs, features, strict=True):
            u = call(rung.block, rung.mix(u, b))  # type: ignore[operator, arg-type]
        return u if self.norm is None else self.dropout(self.norm(u))


class Ladder(nn.Module):
    """The whole side network; stands in a wrapper's ``pet`` as ``input`` and takes over from the backbone's decoder.

    Its decoder's keys and values live in the backbone's cache, behind the backbone's own, so that whatever generation
    does to that (reordering for beams, say) happens to them too.
    """

    def __init__(self, sites: Sites, factor: int, temperature: float, make: LayerFactory) -> None:
        super().__init__()
        self.encoder = SideStack(sites, "enc", factor, temperature, make)
        self.decoder = SideStack(sites, "dec", factor, temperature, make)
        self.up = make.linear(sites.shape.d // factor, sites.shape.d)
        self._memory: tuple[Tensor, Tensor] | None = None
        self._mask: Tensor | None = None
        self._graph = True

    def cut(self, sites: Sites) -> None:
        """Take the layers' start values out of the backbone's, by magnitude; relative position biases whole."""
        words = sites.lm.get_input_embeddings().weight.detach()
        entering = largest(words.float().abs().sum(dim=0), len(self.encoder.first.weight))
        for name, side in (("enc", self.encoder), ("dec", self.decoder)):
            kept = cut(sites.shape.family, name, sites.layers(name), side.layers, entering)
            if side.norm is not None:
                follow([port.module for port in sites.ports(f"{name}.end.ln")], [side.norm], kept)
                with torch.no_grad():
                    position_table(side.layers[0]).copy_(position_table(sites.layers(name)[0]))

    def forward(
        self, join: Callable[..., Any], encoder: nn.Module, ids: Tensor, mask: Tensor, visual: Tensor
    ) -> tuple[SideOutput, Tensor]:
        """Encode: what ``join`` gives for the text alone, the side encoder's states beside it, and the text's mask."""
        self.encoder.watch()
        with torch.no_grad(), context.visual(0):
            states, mask = join(encoder, ids, mask, visual[:, :0])
        joint = torch.cat([mask, mask.new_ones(visual.shape[:2])], dim=1)
        u = self.encoder.enter(visual)
        attends = Attends(hidden(joint, u))
        if self.encoder.family == "t5":  # biases between text tokens, none to or from a visual one
            corner = position_bias(self.encoder.layers[0], mask.shape[1])
            attends.bias = F.pad(corner, (0, visual.shape[1], 0, visual.shape[1])).to(u.dtype)
        return SideOutput(states, side=self.encoder.climb(u, attends), side_mask=joint), mask

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the side encoder's states on their way into the language model (a hook)."""
        outputs = kwargs.get("encoder_outputs")
        if not isinstance(outputs, SideOutput):
            raise MethodError("with a side network call the wrapper (model, model.generate), not its language model")
        self._memory = outputs.side, outputs.side_mask  # type: ignore[assignment]

    def freeze(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Have the backbone's decoder keep nothing for the backward pass (a hook).

        Frozen weights do not suffice: under gradient checkpointing T5 makes a position bias that wants a gradient.
        """
        self.decoder.watch()
        self._graph = torch.is_grad_enabled()
        torch.set_grad_enabled(False)

    def see_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the decoder's self-attention mask, the second argument of its layers (a hook)."""
        self._mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")

    def decode(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Put the side decoder's last states, ``b u d``, in the place of the backbone's (a hook)."""
        torch.set_grad_enabled(self._graph)
        if output is None:  # the backbone's decoder raised an error
            self.decoder.seen = None
            return
        memory, memory_mask = self._memory  # type: ignore[misc]
        u = self.decoder.enter()
        attends = Attends(self._mask, memory=memory, memory_mask=hidden(memory_mask, u), cache=output.past_key_values)
        make_room(attends.cache, 2 * len(self.decoder.rungs))
        output.last_hidden_state = self.up(self.decoder.climb(u, attends))
        self._memory = self._mask = None


def hidden(mask: Tensor, u: Tensor) -> Tensor:
    """What is added to the scores of ``u`` over tokens with this mask, ``b 1 n m``: 0, or the type's minimum."""
    added = (1 - mask[:, None, None, :].to(u.dtype)) * torch.finfo(u.dtype).min
    return added.expand(-1, 1, u.shape[1], -1)


def make_room(cache: Any, layers: int) -> None:
    """Give an encoder-decoder cache of HF, if there is one, places for so many layers."""
    for part in [] if cache is None else [cache.self_attention_cache, cache.cross_attention_cache]:
        part.layers += [DynamicLayer() for _ in range(layers - len(part.layers))]
