"""Layers of BART and T5 written out from their formulas, with room for a change at every site.

``change(point, X, H, X_norm)`` gives H' at a point such as ``sa.out``, ``xa.v`` or ``ff.mid``: X is what enters the
block (at the projections of an attention, what enters them), X_norm the same behind the norm at a T5 block's entrance.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[str, Tensor, Tensor, Tensor], Tensor]


def tanh_gelu(u: Tensor) -> Tensor:
    return 0.5 * u * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (u + 0.044715 * u**3)))


def erf_gelu(u: Tensor) -> Tensor:
    return 0.5 * u * (1 + torch.erf(u / 2**0.5))


ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": tanh_gelu,
    "relu": lambda u: u.clamp(min=0),
    "silu": lambda u: u / (1 + torch.exp(-u)),
    "tanh": torch.tanh,
    "none": lambda u: u,
}


def affine(u: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return u @ weight.T if bias is None else u @ weight.T + bias


def layer_norm(u: Tensor, norm: Any) -> Tensor:
    centred = u - u.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def rms(u: Tensor, norm: Any) -> Tensor:
    return u / (u.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float, bias: Tensor | None) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    scores = scale * q @ k.transpose(-1, -2)
    return (torch.softmax(scores if bias is None else scores + bias, dim=-1) @ v).transpose(1, 2).flatten(2)


def attention(a: Any, block: str, x: Tensor, entering: Tensor, states: Tensor, bias: Any, change: Change) -> Tensor:
    """H' of one attention: ``entering`` goes into the queries, ``states`` into keys and values, ``x`` is X."""
    bart = hasattr(a, "q_proj")
    heads, scale = (a.num_heads, a.head_dim**-0.5) if bart else (a.n_heads, 1.0)
    if block == "xa":
        states = change("xa.kv", states, states, states)
    made = []
    for point, u in (("q", entering), ("k", states), ("v", states)):
        linear = getattr(a, f"{point}_proj" if bart else point)
        made.append(change(f"{block}.{point}", u, affine(u, linear.weight, linear.bias), u))
    linear = a.out_proj if bart else a.o
    mixed = attend(*made, heads, scale, bias)
    h = change(f"{block}.o", mixed, affine(mixed, linear.weight, linear.bias), mixed)
    return change(f"{block}.out", x, h, entering)


def bart_layer(layer: Any, x: Tensor, states: Tensor | None, bias: Any, change: Change) -> Tensor:
    """Post-LN: the norm ends a block."""

    def normed(point: str, u: Tensor, norm: Any) -> Tensor:
        return change(point, u, layer_norm(u, norm), u)

    h = attention(layer.self_attn, "sa", x, x, x, bias, change)
    x = normed("sa.ln", x + h, layer.self_attn_layer_norm)
    if states is not None:
        h = attention(layer.encoder_attn, "xa", x, x, states, None, change)
        x = normed("xa.ln", x + h, layer.encoder_attn_layer_norm)
    u = change("ff.up", x, affine(x, layer.fc1.weight, layer.fc1.bias), x)
    u = change("ff.mid", u, erf_gelu(u), u)
    h = affine(u, layer.fc2.weight, layer.fc2.bias)
    return normed("ff.ln", x + change("ff.out", x, h, x), layer.final_layer_norm)


def t5_layer(layer: Any, x: Tensor, states: Tensor | None, bias: Any, change: Change) -> Tensor:
    """Pre-LN: the norm begins a block, and X is the residual stream before it."""

    def normed(point: str, u: Tensor, norm: Any) -> Tensor:
        return change(point, u, rms(u, norm), u)

    sa, *xa, ff = layer.layer
    u = normed("sa.ln", x, sa.layer_norm)
    x = x + attention(sa.SelfAttention, "sa", x, u, u, bias, change)
    if states is not None:
        u = normed("xa.ln", x, xa[0].layer_norm)
        x = x + attention(xa[0].EncDecAttention, "xa", x, u, states, None, change)
    u = normed("ff.ln", x, ff.layer_norm)
    m = change("ff.up", u, affine(u, ff.DenseReluDense.wi.weight), u)
    m = change("ff.mid", m, m.clamp(min=0), m)
    return x + change("ff.out", x, affine(m, ff.DenseReluDense.wo.weight), u)


def layers(lm: Any, stack: str) -> nn.ModuleList:
    own = lm.get_encoder() if stack == "enc" else lm.get_decoder()
    return own.layers if lm.config.model_type == "bart" else own.block


class Inputs:
    """What layers are tried on: a residual stream, encoder states, and numbers added to self-attention's scores.

    In float64, but for T5's norm, which divides in float32.
    """

    def __init__(self, d: int = 32) -> None:
        g = torch.Generator().manual_seed(3)
        self.x = torch.randn(2, 5, d, generator=g, dtype=torch.float64) * 3
        self.states = torch.randn(2, 6, d, generator=g, dtype=torch.float64)
        self.bias = torch.randn(2, 1, 5, 5, generator=g, dtype=torch.float64)

    def hooked(self, lm: Any, stack: str, index: int = 1) -> Tensor:
        """What HF's own layer gives, whatever hooks it has."""
        layer = layers(lm, stack)[index]
        states = (self.states, None) if stack == "dec" else ()
        if lm.config.model_type == "bart":
            return layer(self.x, self.bias, *states)
        return layer(self.x, self.bias, None, *states)[0]

    def written(self, lm: Any, stack: str, change: Change, index: int = 1) -> Tensor:
        """What the formulas give."""
        layer = bart_layer if lm.config.model_type == "bart" else t5_layer
        return layer(layers(lm, stack)[index], self.x, self.states if stack == "dec" else None, self.bias, change)

    def compare(self, lm: Any, stack: str, change: Change, index: int = 1) -> None:
        hooked, written = self.hooked(lm, stack, index), self.written(lm, stack, change, index)
        torch.testing.assert_close(hooked, written, atol=1e-5, rtol=1e-6)


def matrix(module: Any) -> Tensor:
    """``d_in d_out`` of a Linear, of a product of two matrices, or of a sum of Kronecker products."""
    if hasattr(module, "rule"):
        slices = module.slices if hasattr(module, "slices") else module.left @ module.right
        return sum(torch.kron(a, b) for a, b in zip(module.rule, slices, strict=True))
    return module.left @ module.right if hasattr(module, "left") else module.weight.T


def bottleneck(
    u: Tensor, module: Any, *, heads: int = 1, arrange: str = "plain", act: str = "gelu_tanh", scale: float = 1.0
) -> Tensor:
    """``scale · up(act(down(u)))``, one small matrix per head, cut out of the stacked weights."""
    down, up = module.down, module.up
    split = {"down": (heads, 1), "up": (1, heads), "down_up": (heads, heads), "pair": (heads, heads)}
    lower, upper = split.get(arrange, (1, 1))
    parts = zip(matrix(down).chunk(lower, dim=1), down.bias.chunk(lower), strict=True)
    hidden = [ACTS[act](u @ w + b) for w, b in parts]
    if arrange == "pair" and heads > 1:
        return scale * torch.cat([affine(z, up.weight[i], up.bias[i]) for i, z in enumerate(hidden)], dim=-1)
    z = torch.cat(hidden, dim=-1)
    parts = zip(matrix(up).chunk(upper, dim=1), up.bias.chunk(upper), strict=True)
    return scale * torch.cat([z @ w + b for w, b in parts], dim=-1)


def normalised(u: Tensor) -> Tensor:
    """Per token, of Euclidean length 1."""
    return u / u.pow(2).sum(-1, keepdim=True).sqrt()
