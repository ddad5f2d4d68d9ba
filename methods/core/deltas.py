"""Modifications ΔH as data: bottlenecks, low-rank maps, biases.

Nothing here imports torch at import time; ``build`` imports the blocks when a model is there.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from methods.core.errors import MethodError
from methods.core.schema import FrozenSchema, Init

if TYPE_CHECKING:
    from torch import nn

    from methods.blocks.layer_factory import LayerFactory

DeltaInput = Literal["h", "x", "x_norm", "block"]
INPUT_FORMULAS = {"h": "H", "x": "X", "x_norm": "norm(X)", "block": "(LN(H + X) or, on T5, H + X)"}


class Delta(FrozenSchema):
    """A modification ΔH of what a site returns. A new kind of modification is a subclass with fields and a ``build``.

    Fields of every delta:

    - ``input``: what the module reads. ``h``: H, the site's own output (sequential). ``x``: X, what enters the block
      (parallel). ``x_norm``: X after the norm at the block's entrance (T5; BART has none there, so X itself).
      ``block``: the block's result, LN(H + X) on BART and H + X on T5.
    - ``share``: what the tasks have in common. ``all``: one module for all tasks. ``none``: one module per task, which
      :meth:`build_for_site` makes by calling ``build`` once per task. ``down`` and ``up`` are for bottlenecks.

    A subclass is used by putting it into a :class:`~methods.core.spec.Patch` of a registered method; nothing else has
    to be told about it. The tests over all methods (``tests/methods``: properties, method_training, routing) then run
    over it, with the options at their defaults and at random: exactly what is to be trained is trained and changes,
    gradient checkpointing and autocast work, a copied model has modules of its own, saving and loading, detaching and
    merging keep their promises, and decoding with a cache gives what decoding without one does.

    For a new module this means:

    - every trained parameter gets a gradient (zeros will do) in every update. Experts of which only some are used in a
      pass are therefore stacked in one tensor (``methods/adamix/experts.py``);
    - random numbers in ``forward`` are drawn in training only (``self.training``), and from torch's global generators,
      whose states gradient checkpointing and the checkpoints of a run restore;
    - a token's ΔH depends on no other token unless :attr:`needs_token_mask` says so.
    """

    input: DeltaInput = "h"
    share: Literal["all", "none", "down", "up"] = "all"

    @model_validator(mode="after")
    def _shareable(self) -> "Delta":
        if self.share in ("down", "up") and not isinstance(self, Bottleneck):
            raise ValueError(f"share={self.share!r} is for bottlenecks; a {type(self).__name__} has 'all' or 'none'")
        return self

    @property
    def per_task(self) -> bool:
        """Whether some weights belong to one task."""
        return self.share != "all"

    @property
    def needs_token_mask(self) -> bool:
        """Whether a token's ΔH depends on other tokens.

        Such a module is called as ``module(u, token_mask)`` with ``token_mask`` ``b n`` bool, False where a position is
        padding, or None where there is no padding; it can stand in encoder layers only.
        """
        return False

    @property
    def official_decay(self) -> Mapping[str, bool]:
        """As :attr:`methods.core.part.Part.official_decay`, of names below the delta's module."""
        return {}

    def check(self, d_in: int, d_out: int) -> None:
        """Raise MethodError where the module cannot be built for these widths."""

    def build(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build the module that computes ΔH, for one site of one layer.

        Args:
            d_in: width of what ``input`` names.
            d_out: width of H.
            make: makes every layer and parameter, which puts them on the right device, in the right dtype, and draws
                start values from torch's global generator (nothing on the meta device). Parameters that are made
                otherwise must do the same.

        Returns:
            A module that maps ``b n d_in`` (in the dtype of its first parameter) to ``b n d_out``, or to something that
            broadcasts to it. ΔH is added to H by the caller.
        """
        raise NotImplementedError

    def build_for_site(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build what stands at a site: the module, or with ``share="none"`` one module per task."""
        if self.share == "none":
            return make.per_task(lambda: self.build(d_in, d_out, make))
        return self.build(d_in, d_out, make)


class Bottleneck(Delta):
    """``scale · (W_up · act(W_down · u + b_d) + b_u)``, optionally with heads, norms and structured matrices.

    - ``arrange`` says which matrix is split into ``heads``: with ``down``, ``up`` and ``down_up`` its rows, which does
      not change the function; with ``pair`` head i of the up-projection reads head i of the down-projection only.
    - With ``phm`` = n > 0 both matrices are sums of n Kronecker products (Compacter). Their slices have rank
      ``phm_rank`` (0: not factorised); with ``phm_shared`` all matrices of the model share one rule.
    - With ``factor`` = k > 0 both matrices are products of two matrices of rank k.
    - ``ln_before`` and ``ln_after`` put a new LayerNorm on u and on the result.
    - ``init`` and ``init_up`` are the start rules of the down- and the up-projection.
    """

    share: Literal["all", "none", "down", "up"] = "all"
    r: int = Field(ge=1)
    heads: int = Field(default=1, ge=1)
    arrange: Literal["plain", "down", "up", "down_up", "pair"] = "plain"
    phm: int = Field(default=0, ge=0)
    phm_rank: int = Field(default=0, ge=0)
    phm_shared: bool = False
    factor: int = Field(default=0, ge=0)
    act: Literal["gelu_tanh", "relu", "silu", "tanh", "none"] = "gelu_tanh"
    scale: float = 1.0
    ln_before: bool = False
    ln_after: bool = False
    init: Init = "backbone"
    init_up: Init = "backbone"

    @model_validator(mode="after")
    def _divisible(self) -> "Bottleneck":
        if self.arrange == "plain" and self.heads != 1:
            raise ValueError(f"arrange='plain' has one head, heads={self.heads} given; use arrange='down' or heads=1")
        if self.arrange != "up" and self.r % self.heads:
            raise ValueError(f"rank {self.r} is not divisible by heads {self.heads}")
        structured = f"phm={self.phm}" if self.phm else f"factor={self.factor}"
        if (self.phm or self.factor) and self.heads != 1:
            raise ValueError(f"{structured} goes with one head, heads={self.heads} given")
        if self.phm and self.factor:
            raise ValueError(f"phm={self.phm} and factor={self.factor} exclude each other")
        if (self.phm or self.factor) and not {self.init, self.init_up} <= {"backbone", "zeros"}:
            raise ValueError(f"matrices with {structured} have their own start; leave init at 'backbone' or 'zeros'")
        if self.phm and self.r % self.phm:
            raise ValueError(f"rank {self.r} is not divisible by phm {self.phm}")
        return self

    @property
    def formula(self) -> str:
        """The bottleneck with what it reads, and how its matrices are made."""
        u = f"LN({INPUT_FORMULAS[self.input]})" if self.ln_before else INPUT_FORMULAS[self.input]
        inner = f"W_down · {u} + b_down"
        inner = inner if self.act == "none" else f"{self.act}({inner})"
        text = f"W_up · {inner} + b_up"
        text = text if self.scale == 1.0 else f"{self.scale:g} · ({text})"
        text = f"LN({text})" if self.ln_after else text
        notes = [f"rank {self.r}"]
        notes += [f"{self.heads} heads, arranged {self.arrange}"] if self.heads > 1 else []
        notes += [f"W = Σ of {self.phm} A_i ⊗ B_i"] if self.phm else []
        notes += [f"B_i of rank {self.phm_rank}"] if self.phm_rank else []
        notes += ["A_i one for the model"] if self.phm_shared else []
        notes += [f"W of rank {self.factor}"] if self.factor else []
        notes += [f"tasks share {self.share}"] if self.per_task else []
        return f"{text}   ({'; '.join(notes)})"

    @property
    def official_decay(self) -> Mapping[str, bool]:
        """The biases of matrices that are no Linears: the official code calls them ``b`` and decays them."""
        return {"down.bias": True, "up.bias": True} if self.phm or self.factor else {}

    def check(self, d_in: int, d_out: int) -> None:
        """Raise MethodError where heads or phm do not divide a width."""
        if self.arrange in ("up", "down_up", "pair") and d_out % self.heads:
            raise MethodError(f"output width {d_out} is not divisible by heads {self.heads} (arrange={self.arrange!r})")
        if self.phm and (d_in % self.phm or d_out % self.phm):
            raise MethodError(f"widths {d_in} and {d_out} are not both divisible by phm {self.phm}")

    def build(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build the bottleneck ``b n d_in -> b n d_out``."""
        from methods.blocks.bottleneck import BottleneckBlock

        # A side that is not the shared one has one matrix per task.
        down = self._matrix(d_in, self.r, self.init, make, per_task=self.share == "up")
        up = self._matrix(
            self.r, d_out, self.init_up, make, per_task=self.share == "down", paired=self.arrange == "pair"
        )
        before = make.norm(d_in) if self.ln_before else None
        after = make.norm(d_out) if self.ln_after else None
        return BottleneckBlock(down, up, act=self.act, scale=self.scale, before=before, after=after)

    def _matrix(
        self, d_in: int, d_out: int, init: Init, make: "LayerFactory", *, per_task: bool, paired: bool = False
    ) -> "nn.Module":
        from methods.blocks.bottleneck import BlockDiagonalLinear, FactoredLinear
        from methods.blocks.phm import PHMLinear

        def build() -> "nn.Module":
            if self.phm:
                return PHMLinear(self.phm, d_in, d_out, init, make, rank=self.phm_rank, shared=self.phm_shared)
            if self.factor:
                return FactoredLinear(d_in, d_out, self.factor, init, make)
            if paired:
                return BlockDiagonalLinear(self.heads, d_in, d_out, init, make)
            return make.linear(d_in, d_out, init)

        return make.per_task(build) if per_task else build()


class LoRA(Delta):
    """``(alpha / r) · B · A · dropout(x)`` beside a Linear (Hu et al., 2022)."""

    input: DeltaInput = "x"
    r: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def formula(self) -> str:
        """The low-rank map with its rank, alpha and dropout."""
        dropped = (
            f"dropout_{self.dropout:g}({INPUT_FORMULAS[self.input]})" if self.dropout else INPUT_FORMULAS[self.input]
        )
        tasks = "; one per task" if self.per_task else ""
        return f"{self.alpha / self.r:g} · B · A · {dropped}   (rank {self.r}, alpha {self.alpha:g}{tasks})"

    def build(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build the low-rank map ``b n d_in -> b n d_out``, zero at the start."""
        from methods.blocks.lora import LoRABlock

        return LoRABlock(d_in, self.r, d_out, scale=self.alpha / self.r, dropout=self.dropout, make=make)


class Bias(Delta):
    """A trained vector, zero at the start: a bias for a module that has none."""

    @property
    def official_decay(self) -> Mapping[str, bool]:
        """The vector is not decayed: the official code calls it ``bias``."""
        return {"vector": False}

    def build(self, d_in: int, d_out: int, make: "LayerFactory") -> "nn.Module":
        """Build the bias ``d_out``, which is the same for every input."""
        from methods.blocks.bias import BiasBlock

        return BiasBlock(d_out, make=make)
