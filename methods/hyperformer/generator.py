"""Adapters whose weights are generated from a task and a layer (HyperFormer, Mahabadi et al., 2021)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import LayerFactory
from methods.blocks.per_task import known
from methods.core import context

if TYPE_CHECKING:
    from methods.hyperformer import HyperFormer

EPS = 1e-6  # of the norm on c


class TaskVectors(nn.Module):
    """A trained vector per task, N(0, 1) at the start."""

    def __init__(self, tasks: tuple[str, ...], width: int, make: LayerFactory) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict({task: make.normal(width, std=1.0) for task in tasks})

    def forward(self) -> Tensor:
        """The current task's vector; MethodError where there is none."""
        return self.vectors[known(context.current(), tuple(self.vectors))]


class Generator(nn.Module):
    """One stack's network from task and layer to the weights of its adapters."""

    def __init__(
        self, spec: "HyperFormer", tasks: TaskVectors, blocks: list[str], layers: int, d: int, make: LayerFactory
    ) -> None:
        super().__init__()
        self._tasks = (tasks,)  # not a submodule: both stacks have the same
        self.layers = make.table(layers, spec.task_dim)
        self.down = make.linear(2 * spec.task_dim, spec.hidden)
        self.up = make.linear(spec.hidden, spec.e)
        self.norm = nn.LayerNorm(spec.e, eps=EPS, device=make.device, dtype=make.dtype)
        self.blocks = nn.ModuleDict({block: Weights(spec.e, d, spec.r, make) for block in blocks})

    def forward(self, block: str, layer: int) -> tuple[Tensor, ...]:
        """Weight and bias of the down-projection, then of the up-projection."""
        (tasks,) = self._tasks
        pair = torch.cat([tasks(), self.layers[layer]])
        return self.blocks[block](self.norm(self.up(F.relu(self.down(pair)))))


class Weights(nn.Module):
    """Linears from c to one kind of block's weights and biases."""

    def __init__(self, e: int, d: int, r: int, make: LayerFactory) -> None:
        super().__init__()
        self.down_weight, self.down_bias = make.linear(e, r * d), make.linear(e, r)
        self.up_weight, self.up_bias = make.linear(e, d * r), make.linear(e, d)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """From c (e): down ``r d`` and ``r``, up ``d r`` and ``d``."""
        b_down, b_up = self.down_bias(c), self.up_bias(c)
        r, d = len(b_down), len(b_up)
        return self.down_weight(c).view(r, d), b_down, self.up_weight(c).view(d, r), b_up


class Adapter(nn.Module):
    """``W_up · gelu(W_down · u + b_d) + b_u`` with generated weights."""

    def __init__(self, generator: Generator, block: str, layer: int) -> None:
        super().__init__()
        self._generator = (generator,)  # not a submodule: all layers have the same
        self.block = block
        self.layer = layer

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``."""
        (generator,) = self._generator
        w_down, b_down, w_up, b_up = generator(self.block, self.layer)
        u = u.to(w_down.dtype)  # on T5 in half precision the FFN's output is float32
        return F.linear(F.gelu(F.linear(u, w_down, b_down), approximate="tanh"), w_up, b_up)
