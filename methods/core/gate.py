"""Granularity matrices G as data.

Nothing here imports torch at import time; ``build`` imports the block when a model is there.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from methods.core.errors import MethodError
from methods.core.schema import FrozenSchema, Init

if TYPE_CHECKING:
    from torch import nn

    from methods.blocks.layer_factory import LayerFactory


class Gate(FrozenSchema):
    """A granularity matrix G: what it reads, its shape before broadcasting, how it is squashed, and what it does.

    - ``kind``: what computes it. ``vector`` a trained vector, ``dense`` one Linear, ``lowrank`` a bottleneck of rank
      ``r``, ``self`` ΔH itself. ``layernorm`` (trained) and ``l2norm`` stand in a gate's place and normalise Ĥ.
    - ``input``: what it reads, of X, H and Ĥ = H + ΔH; "none" for a vector.
    - ``out``: its shape. ``full`` b n d, ``token`` b n 1, ``channel`` d (a vector), ``scalar`` b 1 1.
    - ``squash``: the function on its values. ``pool``: the mean over all positions, or over those that are no padding.
    - ``op``: with "mul" H' = G ⊙ Ĥ, with "add" H' = Ĥ + G. With ``target`` "h" G is applied to H alone and ΔH is added
      afterwards.
    - ``init_down`` and ``init``: start rules of a bottleneck's first layer, and of the last layer or the vector.
    """

    kind: Literal["lowrank", "dense", "vector", "self", "layernorm", "l2norm"]
    input: Literal["none", "x", "h", "hhat", "x+h", "x+hhat", "cat(x,h)", "cat(x,hhat)"] = "none"
    out: Literal["full", "token", "channel", "scalar"] = "full"
    squash: Literal["sigmoid", "one_plus", "one_plus_sigmoid", "none"] = "sigmoid"
    pool: Literal["none", "mean", "masked_mean"] = "none"
    op: Literal["mul", "add"] = "mul"
    target: Literal["hhat", "h"] = "hhat"
    r: int = Field(default=0, ge=0)
    init_down: Init = "backbone"
    init: Init | Literal["ones"] = "backbone"

    @model_validator(mode="after")
    def _possible(self) -> "Gate":
        has_input = self.kind in ("lowrank", "dense")
        if (self.kind == "vector") != (self.out == "channel") or has_input != (self.input != "none"):
            raise ValueError(f"a {self.kind} gate with input {self.input!r} and out {self.out!r} cannot be had")
        if not has_input and self.kind != "vector" and self.out != "full":
            raise ValueError(f"a {self.kind} gate has out='full', {self.out!r} given")
        if (self.out == "scalar") != (self.pool != "none"):
            raise ValueError(f"out='scalar' goes with a pool and only with it (out {self.out!r}, pool {self.pool!r})")
        if (self.kind == "lowrank") != (self.r > 0):
            raise ValueError(f"a rank goes with a lowrank gate and only with it (kind {self.kind!r}, r {self.r})")
        if self.init == "ones" and self.kind != "vector":
            raise ValueError(f"a {self.kind} gate cannot start at ones, only a vector can")
        if self.kind.endswith("norm") and (self.op, self.target) != ("mul", "hhat"):
            raise ValueError(f"a {self.kind} stands in the gate's place; it is not multiplied, added or aimed at H")
        return self

    @property
    def formula(self) -> str:
        """G as a formula of what it reads, with its shape."""
        terms = {"cat(x,h)": "[X ; H]", "cat(x,hhat)": "[X ; Ĥ]"}.get(self.input)
        terms = terms or " + ".join({"x": "X", "h": "H", "hhat": "Ĥ"}.get(term, term) for term in self.input.split("+"))
        terms = f"({terms})" if "+" in terms else terms
        body = {
            "vector": "z",
            "self": "ΔH",
            "dense": f"W · {terms} + b",
            "lowrank": f"V_up · gelu_tanh(V_down · {terms} + c_down) + c_up",
        }[self.kind]
        text = {"sigmoid": f"σ({body})", "one_plus": f"1 + {body}", "one_plus_sigmoid": f"1 + σ({body})", "none": body}
        pooled = {"none": "", "mean": "mean over all positions of ", "masked_mean": "mean over tokens of "}[self.pool]
        size = {"full": "b x n x d", "token": "b x n x 1", "channel": "d", "scalar": "b x 1 x 1"}[self.out]
        return f"{pooled}{text[self.squash]}   ({size}{f', rank {self.r}' if self.r else ''})"

    def applied_to(self, hhat: str, h: str) -> str:
        """The formula of the gated output, from those of ``hhat`` = ``h`` + ΔH and of ``h``."""
        if self.kind == "layernorm":
            return f"LayerNorm({hhat})"
        if self.kind == "l2norm":
            return f"({hhat}) / |{hhat}|"
        sign = "⊙" if self.op == "mul" else "+"
        return f"G {sign} ({hhat})" if self.target == "hhat" else f"ΔH + G {sign} {h}"

    @property
    def reads_x(self) -> bool:
        """Whether it reads X, the input of the block."""
        return "x" in self.input

    def check(self, d_x: int, d_h: int) -> None:
        """Raise MethodError where X and H have different widths and the gate adds them."""
        if self.input.startswith("x+") and d_x != d_h:
            raise MethodError(f"a gate on {self.input!r} needs X and H of one width; here they have {d_x} and {d_h}")

    def build(self, d_x: int, d_h: int, make: "LayerFactory") -> "nn.Module":
        """Build the gate for one site of one layer, where X has width ``d_x`` and H width ``d_h``.

        Its duties are those of :meth:`methods.core.deltas.Delta.build`; it is called with X, H, ΔH, Ĥ and the token
        mask, as :meth:`methods.blocks.gates.GateBlock.forward` describes.
        """
        from methods.blocks.gates import GateBlock

        d_in = d_x + d_h if self.input.startswith("cat") else d_x if self.reads_x else d_h
        d_out = d_h if self.out in ("full", "channel") else 1
        return GateBlock(
            self.kind,
            d_in,
            d_out,
            input=self.input,
            squash=self.squash,
            pool=self.pool,
            op=self.op,
            target=self.target,
            r=self.r,
            init_down=self.init_down,
            init=self.init,
            make=make,
        )
