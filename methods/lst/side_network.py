"""Ladder side-tuning: a narrow encoder-decoder beside a frozen one, fed from each of its layers.

    u <- D_0 drop(x);   u <- block_i(g_i u + (1 - g_i) D_i b_i),   g_i = σ(α_i / T);   logits = head(W_up drop(norm(u)))

where x is a stack's embedded input and b_i the output of the backbone's i-th layer (Sung et al., 2022, and the LST
official code). The backbone reads text alone and keeps nothing for the backward pass; visual tokens enter the side
encoder only, where D_i b_i is 0 for them.
"""

from collections.abc import Callable, Mapping
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
from methods.lst.pruning import cut_layers, cut_modules


@dataclass
class SideOutput(BaseModelOutput):
    """The backbone's states of the text, ``b t d``, and the side encoder's of text and visual tokens, ``b n d'``, with
    the mask of these, ``b n``. Generation repeats all of them for its beams."""

    side: Tensor | None = None
    side_mask: Tensor | None = None


@dataclass
class LayerArguments:
    """What the layers of a stack are called with besides their states, in the order of HF's signatures.

    ``mask`` is added to the scores of self-attention, ``memory_mask`` to those of cross-attention over ``memory``, the
    side encoder's states. A T5 layer returns its position biases for the next.
    """

    mask: Tensor | None
    bias: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None
    memory_bias: Tensor | None = None
    cache: Any = None

    def call_t5(self, layer: nn.Module, u: Tensor) -> Tensor:
        """Return the states after a T5 layer."""
        biases = (self.mask, self.bias, self.memory, self.memory_mask, self.memory_bias)
        u, self.bias, self.memory_bias = layer(u, *biases, past_key_values=self.cache)
        return u

    def call_bart(self, layer: nn.Module, u: Tensor) -> Tensor:
        """Return the states after a BART layer."""
        if self.memory is None:
            return layer(u, self.mask)
        return layer(u, self.mask, self.memory, self.memory_mask, past_key_values=self.cache)


class LadderLayer(nn.Module):
    """One layer of the side network, and the connection to it from the backbone's layer."""

    def __init__(self, d: int, block: nn.Module, width: int, temperature: float, make: LayerFactory) -> None:
        super().__init__()
        self.temperature = temperature
        self.gate = make.vector(1, "zeros")
        self.down = make.linear(d, width)
        self.block = block

    def mix(self, u: Tensor, b: Tensor) -> Tensor:
        """Return ``g u + (1 - g) D b`` from u, ``b n d'``, and b, ``b t d``; b counts as 0 at positions from t on."""
        g = torch.sigmoid(self.gate / self.temperature)
        step = self.down(b.to(self.down.weight.dtype))
        return g * u + (1 - g) * F.pad(step, (0, 0, 0, u.shape[1] - b.shape[1])).to(u.dtype)


class SideStack(nn.Module):
    """The side network's encoder or decoder, and what it has recorded of the backbone's in the current call.

    The layers are HF's own. BART's, which end with a norm, are followed by none. Dropout rates are the backbone's.
    """

    def __init__(self, sites: Sites, name: str, factor: int, temperature: float, make: LayerFactory) -> None:
        super().__init__()
        d, width = sites.shape.d, sites.shape.d // factor
        with make.device:
            layers, norm = sites.narrow(name, factor)
        self.family = sites.shape.family
        self.dropout = nn.Dropout(sites.dropout(name))
        self.first = make.linear(d, width)
        self.rungs = nn.ModuleList(LadderLayer(d, layer, width, temperature, make) for layer in layers)
        self.norm = norm
        self.to(make.dtype)
        self.recorded: list[Tensor] | None = None  # the stack's embedded input, then its layers' outputs

    @property
    def layers(self) -> list[nn.Module]:
        """The side layers."""
        return [rung.block for rung in self.rungs]  # type: ignore[misc]

    def start_recording(self) -> None:
        """Have :meth:`record` keep what it is given, until :meth:`run` has used it."""
        self.recorded = []

    def record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Keep the output of the backbone's entrance or, after it, of its layers (a hook)."""
        if self.recorded is not None:
            self.recorded.append(output[0] if isinstance(output, tuple) else output)

    def enter(self, visual: Tensor | None = None) -> Tensor:
        """Return ``D_0 drop(x)``, ``b n d'``, of the recorded text input with visual tokens ``b v d`` behind it."""
        assert self.recorded is not None
        x = self.recorded[0].to(self.first.weight.dtype)
        return self.first(self.dropout(x if visual is None else torch.cat([x, visual.to(x.dtype)], dim=1)))

    def run(self, u: Tensor, arguments: LayerArguments) -> Tensor:
        """Return the last states, ``b n d'``, from the first ones ``u`` and the recorded outputs of the layers."""
        assert self.recorded is not None
        features, self.recorded = self.recorded[1:], None
        call = arguments.call_t5 if self.family == "t5" else arguments.call_bart
        for rung, b in zip(self.rungs, features, strict=True):
            u = call(rung.block, rung.mix(u, b))  # type: ignore[operator, arg-type]
        return u if self.norm is None else self.dropout(self.norm(u))


class SideNetwork(nn.Module):
    """The whole side network: it makes the encoder's output (:class:`methods.core.contracts.EncoderInput`) and replaces
    the output of the backbone's decoder.

    The keys and values of its decoder live in the backbone's cache, behind the backbone's own, so that whatever
    generation does to that (such as reordering for beams) happens to them too.
    """

    def __init__(self, sites: Sites, factor: int, temperature: float, make: LayerFactory) -> None:
        super().__init__()
        self.encoder = SideStack(sites, "enc", factor, temperature, make)
        self.decoder = SideStack(sites, "dec", factor, temperature, make)
        self.up = make.linear(sites.shape.d // factor, sites.shape.d)
        self._memory: tuple[Tensor, Tensor] | None = None
        self._mask: Tensor | None = None
        self._grad_enabled = True

    def cut_out_of(self, sites: Sites, kept: Mapping[str, Tensor]) -> None:
        """Take the start values of the layers from the backbone's features ``kept`` (:func:`methods.lst.pruning
        .kept_features`); position biases are copied whole."""
        kept = {name: features.to(self.up.weight.device) for name, features in kept.items()}
        for name, side in (("enc", self.encoder), ("dec", self.decoder)):
            layers = sites.layers(name)
            rows = cut_layers(sites.shape.family, name, layers, side.layers, kept["words"], kept[name])
            if side.norm is not None:
                cut_modules([port.module for port in sites.ports(f"{name}.end.ln")], [side.norm], rows, rows)
                with torch.no_grad():
                    position_table(side.layers[0]).copy_(position_table(sites.layers(name)[0]))

    def forward(
        self,
        join: Callable[..., Any],
        encoder: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        visual_tokens: Tensor,
    ) -> tuple[SideOutput, Tensor]:
        """Encode the text with the backbone, text and visual tokens with the side encoder; the mask is the text's."""
        self.encoder.start_recording()
        with torch.no_grad(), context.visual(0):
            states, mask = join(encoder, input_ids, attention_mask, visual_tokens[:, :0])
        side_mask = torch.cat([mask, context.visual_mask(visual_tokens, mask)], dim=1)
        u = self.encoder.enter(visual_tokens)
        arguments = LayerArguments(additive_mask(side_mask, u))
        if self.encoder.family == "t5":  # biases between text tokens, none to or from a visual one
            text_bias, count = position_bias(self.encoder.layers[0], mask.shape[1]), visual_tokens.shape[1]
            arguments.bias = F.pad(text_bias, (0, count, 0, count)).to(u.dtype)
        return SideOutput(states, side=self.encoder.run(u, arguments), side_mask=side_mask), mask

    def store_encoder_outputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the side encoder's states, which enter the language model with the backbone's (a hook)."""
        outputs = kwargs.get("encoder_outputs")
        if not isinstance(outputs, SideOutput):
            raise MethodError("with a side network call the wrapper (model, model.generate), not its language model")
        self._memory = outputs.side, outputs.side_mask  # type: ignore[assignment]

    def disable_gradients(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Have the backbone's decoder keep nothing for the backward pass (a hook).

        That its weights are frozen is not enough: under gradient checkpointing T5 makes a position bias that requires a
        gradient. :meth:`decode` is called even after an error, and switches gradients on again.
        """
        self.decoder.start_recording()
        self._grad_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)

    def store_decoder_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the decoder's self-attention mask, the second argument of its layers (a hook)."""
        self._mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")

    def decode(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Replace the last states of the backbone's decoder by those of the side decoder, ``b u d`` (a hook)."""
        torch.set_grad_enabled(self._grad_enabled)
        if output is None:  # the backbone's decoder raised an error
            self.decoder.recorded = None
            return
        memory, memory_mask = self._memory  # type: ignore[misc]
        u = self.decoder.enter()
        cache = output.past_key_values
        memory_mask = additive_mask(memory_mask, u)
        arguments = LayerArguments(self._mask, memory=memory, memory_mask=memory_mask, cache=cache)
        extend_cache(cache, 2 * len(self.decoder.rungs))
        output.last_hidden_state = self.up(self.decoder.run(u, arguments))
        self._memory = self._mask = None


def additive_mask(mask: Tensor, u: Tensor) -> Tensor:
    """Return what is added to the attention scores of ``u``, ``b n d``, over tokens with ``mask``, ``b m``: ``b 1 n
    m``, 0 or, where a token is padding, the dtype's minimum."""
    added = (1 - mask[:, None, None, :].to(u.dtype)) * torch.finfo(u.dtype).min
    return added.expand(-1, 1, u.shape[1], -1)


def extend_cache(cache: Any, layers: int) -> None:
    """Give an encoder-decoder cache of HF, if there is one, places for ``layers`` layers."""
    for part in [] if cache is None else [cache.self_attention_cache, cache.cross_attention_cache]:
        part.layers += [DynamicLayer() for _ in range(layers - len(part.layers))]
