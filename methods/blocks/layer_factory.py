"""The maker of new layers: the only place where a block gets its device, its dtype and its start values."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from methods.blocks.per_task import PerTask

T = TypeVar("T")

STD = 0.02  # of the normal distribution from which "normal" start values are drawn


@dataclass(frozen=True)
class LayerFactory:
    """Makes layers on one device and in one dtype, with start values drawn from torch's global random generator.

    On the meta device nothing is drawn. The start rules of a matrix (``init``) are ``normal`` (N(0, 0.02²), zero bias),
    ``torch`` (torch's own: U(±1/√fan_in), the bias too), ``kaiming`` (Kaiming-uniform with a = √5, zero bias),
    ``zeros``, and ``backbone``: the rule that suits the backbone, which whoever makes the factory names.

    Attributes:
        device: where parameters are made.
        dtype: their dtype.
        linear_init: the start rule that ``init="backbone"`` stands for.
        table_std: standard deviation of the start values of embedding tables.
        tasks: names of the tasks for which modules per task are made.
    """

    device: torch.device
    dtype: torch.dtype
    linear_init: str = "normal"
    table_std: float = STD
    tasks: tuple[str, ...] = ()
    _shared: dict[Hashable, object] = field(default_factory=dict, repr=False)

    def per_task(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Call ``build`` once for each task; the module returned runs that of the current task."""
        return PerTask(self.tasks, build)

    def once(self, key: Hashable, build: Callable[[], T]) -> T:
        """Return the same object to every caller with this ``key``: for what several modules of a model share."""
        if key not in self._shared:
            self._shared[key] = build()
        return cast(T, self._shared[key])

    def norm(self, d: int) -> nn.LayerNorm:
        """A LayerNorm over the last axis, of width ``d``, with weight 1 and bias 0."""
        return nn.LayerNorm(d, device=self.device, dtype=self.dtype)

    def linear(self, d_in: int, d_out: int, init: str = "backbone", *, bias: bool = True) -> nn.Linear:
        """An affine map ``... d_in -> ... d_out`` that starts by the rule ``init``."""
        layer = nn.utils.skip_init(nn.Linear, d_in, d_out, bias=bias, device=self.device, dtype=self.dtype)
        self._draw(layer.weight, layer.bias, d_in, init)
        return layer

    def grouped(self, groups: int, d_in: int, d_out: int, init: str) -> tuple[nn.Parameter, nn.Parameter]:
        """Weights ``groups d_out d_in`` and biases ``groups d_out`` of ``groups`` affine maps side by side."""
        weight, bias = self._empty(groups, d_out, d_in), self._empty(groups, d_out)
        self._draw(weight, bias, d_in, init)
        return weight, bias

    def vector(self, d: int, init: str) -> nn.Parameter:
        """A trained vector: zeros or ones for these values of ``init``, N(0, 0.02²) for any other."""
        if init in ("zeros", "ones"):
            return nn.Parameter(torch.full((d,), float(init == "ones"), device=self.device, dtype=self.dtype))
        return self.normal(d, std=STD)

    def table(self, rows: int, d: int) -> nn.Parameter:
        """An embedding table ``rows d`` of N(0, ``table_std``²)."""
        return self.normal(rows, d, std=self.table_std)

    def normal(self, *size: int, std: float) -> nn.Parameter:
        """A tensor of N(0, ``std``²)."""
        tensor = self._empty(*size)
        with torch.no_grad():
            tensor.normal_(std=std)
        return tensor

    def uniform(self, *size: int, bound: float) -> nn.Parameter:
        """A tensor of U(-``bound``, ``bound``)."""
        tensor = self._empty(*size)
        with torch.no_grad():
            tensor.uniform_(-bound, bound)
        return tensor

    def glorot(self, *size: int, zero: bool = False) -> nn.Parameter:
        """Matrices ``... d_in d_out``, Glorot-uniform with gain √2, or all zero."""
        return self.uniform(*size, bound=0.0 if zero else math.sqrt(2) * math.sqrt(6 / sum(size[-2:])))

    def _empty(self, *size: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(*size, device=self.device, dtype=self.dtype))

    def _draw(self, weight: Tensor, bias: Tensor | None, fan_in: int, init: str) -> None:
        rule = self.linear_init if init == "backbone" else init
        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            if rule == "normal":
                weight.normal_(std=STD)
            elif rule in ("torch", "kaiming"):  # Kaiming-uniform with a = √5 is U(±1/√fan_in)
                weight.uniform_(-bound, bound)
            else:
                weight.zero_()
            if bias is not None:
                if rule == "torch":
                    bias.uniform_(-bound, bound)
                else:
                    bias.zero_()
