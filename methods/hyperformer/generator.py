"""Adapters whose weights are generated from a task and a layer (HyperFormer, Mahabadi et al., 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.blocks.layer_factory import LayerFactory
from methods.blocks.per_task import current_task_of

EPS = 1e-6  # of the norm on c


class TaskVectors(nn.Module):
    """A trained vector per task, N(0, 1) at the start."""

    def __init__(self, tasks: tuple[str, ...], width: int, make: LayerFactory) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict({task: make.normal(width, std=1.0) for task in tasks})

    def forward(self) -> Tensor:
        """Return the current task's vector; raises MethodError where there is none."""
        return self.vectors[current_task_of(tuple(self.vectors))]


class WeightGenerator(nn.Module):
    """The network of one stack that maps task and layer to the weights of an adapter.

    ``blocks`` are the kinds of block that have adapters, ``layers`` is the number of layers, ``d`` the width of the
    model and ``r`` that of the adapters; ``task_dim``, ``hidden`` and ``e`` are as in
    :class:`methods.hyperformer.HyperFormer`.
    """

    def __init__(
        self,
        tasks: TaskVectors,
        blocks: list[str],
        layers: int,
        d: int,
        *,
        r: int,
        task_dim: int,
        hidden: int,
        e: int,
        make: LayerFactory,
    ) -> None:
        super().__init__()
        self._tasks = (tasks,)  # in a tuple, so that it is no submodule: both stacks share it
        self.layers = make.table(layers, task_dim)
        self.down = make.linear(2 * task_dim, hidden)
        self.up = make.linear(hidden, e)
        self.norm = nn.LayerNorm(e, eps=EPS, device=make.device, dtype=make.dtype)
        self.blocks = nn.ModuleDict({block: AdapterWeights(e, d, r, make) for block in blocks})

    def forward(self, block: str, layer: int) -> tuple[Tensor, ...]:
        """Return weight and bias of the down-projection, then those of the up-projection."""
        (tasks,) = self._tasks
        pair = torch.cat([tasks(), self.layers[layer]])
        return self.blocks[block](self.norm(self.up(F.relu(self.down(pair)))))


class AdapterWeights(nn.Module):
    """Linears from c to the weights and biases of an adapter, for one kind of block."""

    def __init__(self, e: int, d: int, r: int, make: LayerFactory) -> None:
        super().__init__()
        self.down_weight, self.down_bias = make.linear(e, r * d), make.linear(e, r)
        self.up_weight, self.up_bias = make.linear(e, d * r), make.linear(e, d)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """From c (e): weight ``r d`` and bias ``r`` of the down-projection, ``d r`` and ``d`` of the up-projection."""
        b_down, b_up = self.down_bias(c), self.up_bias(c)
        r, d = len(b_down), len(b_up)
        return self.down_weight(c).view(r, d), b_down, self.up_weight(c).view(d, r), b_up


class GeneratedAdapter(nn.Module):
    """``W_up · gelu(W_down · u + b_down) + b_up`` with generated weights."""

    def __init__(self, generator: WeightGenerator, block: str, layer: int) -> None:
        super().__init__()
        self._generator = (generator,)  # no submodule: all layers share it
        self.block = block
        self.layer = layer

    def forward(self, u: Tensor) -> Tensor:
        """``b n d -> b n d``."""
        (generator,) = self._generator
        w_down, b_down, w_up, b_up = generator(self.block, self.layer)
        u = u.to(w_down.dtype)  # on T5 in half precision the FFN's output is float32
        return F.linear(F.gelu(F.linear(u, w_down, b_down), approximate="tanh"), w_up, b_up)
