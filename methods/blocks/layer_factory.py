"""Making new layers with start values that are drawn explicitly.

``backbone`` is what the VL-PET official code started from in effect, which differs by backbone: its BART re-drew every
Linear as N(0, 0.02²) with zero bias, its T5 left torch's default.
"""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")

STD = 0.02


@dataclass(frozen=True)
class LayerFactory:
    """Makes layers for a backbone ``family`` on a device and in a dtype; on the meta device nothing is drawn.

    ``tasks`` are those for which modules per task are made.
    """

    family: str
    device: torch.device
    dtype: torch.dtype
    tasks: tuple[str, ...] = ()
    _shared: dict[Hashable, object] = field(default_factory=dict, repr=False)

    def per_task(self, build: Callable[[], nn.Module]) -> nn.Module:
        """One module for each task, of which the current task's runs."""
        from methods.blocks.per_task import PerTask

        return PerTask(self.tasks, build)

    def once(self, key: Hashable, build: Callable[[], T]) -> T:
        """The same object for every caller with this key: what several modules of a model share."""
        if key not in self._shared:
            self._shared[key] = build()
        return cast(T, self._shared[key])

    def norm(self, d: int) -> nn.LayerNorm:
        """A LayerNorm over the last axis, neutral at the start."""
        return nn.LayerNorm(d, device=self.device, dtype=self.dtype)

    def linear(self, d_in: int, d_out: int, init: str = "backbone", *, bias: bool = True) -> nn.Linear:
        """An affine map ``... d_in -> ... d_out``; ``init`` is backbone | normal | torch | kaiming | zeros."""
        layer = nn.utils.skip_init(nn.Linear, d_in, d_out, bias=bias, device=self.device, dtype=self.dtype)
        self._draw(layer.weight, layer.bias, d_in, init)
        return layer

    def grouped(self, groups: int, d_in: int, d_out: int, init: str) -> tuple[nn.Parameter, nn.Parameter]:
        """Weights ``g o i`` and biases ``g o`` of ``groups`` affine maps side by side."""
        weight, bias = self._empty(groups, d_out, d_in), self._empty(groups, d_out)
        self._draw(weight, bias, d_in, init)
        return weight, bias

    def vector(self, d: int, init: str) -> nn.Parameter:
        """A trained vector: at zeros or ones, else N(0, 0.02²) on every backbone."""
        if init in ("zeros", "ones"):
            return nn.Parameter(torch.full((d,), float(init == "ones"), device=self.device, dtype=self.dtype))
        return self.normal(d, std=STD)

    def table(self, rows: int, d: int) -> nn.Parameter:
        """An embedding table: N(0, 0.02²) on BART, N(0, 1) on T5, as in the official runs."""
        return self.normal(rows, d, std={"bart": STD, "t5": 1.0}[self.family])

    def normal(self, *size: int, std: float) -> nn.Parameter:
        """A tensor of N(0, std²)."""
        tensor = self._empty(*size)
        with torch.no_grad():
            tensor.normal_(std=std)
        return tensor

    def uniform(self, *size: int, bound: float) -> nn.Parameter:
        """A tensor of U(-bound, bound)."""
        tensor = self._empty(*size)
        with torch.no_grad():
            tensor.uniform_(-bound, bound)
        return tensor

    def glorot(self, *size: int, zero: bool = False) -> nn.Parameter:
        """Matrices ``... i o``, Glorot-uniform with gain √2, or all 0."""
        return self.uniform(*size, bound=0.0 if zero else math.sqrt(2) * math.sqrt(6 / sum(size[-2:])))

    def _empty(self, *size: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(*size, device=self.device, dtype=self.dtype))

    def _draw(self, weight: Tensor, bias: Tensor | None, fan_in: int, init: str) -> None:
        rule = {"bart": "normal", "t5": "torch"}[self.family] if init == "backbone" else init
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
