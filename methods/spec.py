"""The schema of a method: parts that act at named sites of the backbone, and what else is trained.

A method is data. ``X`` is the input of a backbone sub-module, ``H`` its output; a :class:`Patch` returns

    H' = s * G * (H + ΔH)        ΔH from ``delta``, G from ``gate``, s = ``scale``

which goes on to the backbone's own dropout, residual and norm (ICCV 2023, VL-PET, section 3). A new kind of ``ΔH`` is a
subclass of :class:`Delta` with a ``build``; something that is not a patch (a prompt, a side network) a subclass of
:class:`Part` with a ``place``. Neither needs a change anywhere else.

Nothing here imports torch: ``build`` and ``place`` do so when a model is there.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from methods.errors import MethodError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from methods.blocks.init import Maker
    from methods.place import Placement

_POINTS = {"sa": ("q", "k", "v", "o", "out", "ln"), "ff": ("up", "mid", "out", "ln")}
_POINTS["xa"] = _POINTS["sa"]
LAYER_SITES = tuple(
    f"{stack}.{block}.{point}"
    for stack, blocks in (("enc", ("sa", "ff")), ("dec", ("sa", "xa", "ff")))
    for block in blocks
    for point in _POINTS[block]
)
SITES = (*LAYER_SITES, "enc.end.ln", "dec.end.ln", "lm.head", "vis.ln")

Init = Literal["backbone", "normal", "zeros"]


class Model(BaseModel):
    """Frozen data without unknown fields; what does not hold raises MethodError with the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise MethodError(reasons(error, type(self).__name__)) from error

    def data(self) -> dict[str, Any]:
        """JSON-able content that tells this object from any other: its kind and the fields off their defaults."""
        fields = type(self).model_fields
        off = {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}
        return {"type": type(self).__name__, **{name: _plain(value) for name, value in off.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return value.data()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def reasons(error: ValidationError, where: str) -> str:
    """One line for all that pydantic found wrong with ``where``."""
    found = []
    for item in error.errors():
        path = ".".join([where, *(str(key) for key in item["loc"])])
        given = "" if item["type"] == "value_error" else f" (given: {item['input']!r})"
        found.append(f"{path}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(found)


class Part(Model):
    """Something a method puts into the backbone."""

    def place(self, placement: "Placement") -> None:
        """Build the modules and plan their hooks; the model itself is not touched here."""
        raise NotImplementedError


class Delta(Model):
    """A modification ΔH of a site's output, computed from ``input``: ``h`` (sequential) or ``x`` (parallel)."""

    input: Literal["h", "x"] = "h"

    def build(self, d_in: int, d_out: int, make: "Maker") -> "nn.Module":
        """The module ``b n d_in -> b n d_out``; MethodError where these widths cannot be had."""
        raise NotImplementedError


class Bottleneck(Delta):
    """``W_up · act(W_down · u + b_d) + b_u``, optionally with heads.

    ``down``, ``up`` and ``down_up`` split the rows of a matrix over ``heads``, which leaves the function as it is; in
    ``pair`` head i of the up-projection sees head i of the down-projection only. With ``phm`` = n > 0 both matrices are
    sums of n Kronecker products (Compacter).
    """

    r: int = Field(ge=1)
    heads: int = Field(default=1, ge=1)
    arrange: Literal["plain", "down", "up", "down_up", "pair"] = "plain"
    phm: int = Field(default=0, ge=0)
    act: Literal["gelu_tanh", "relu", "silu"] = "gelu_tanh"
    init: Init = "backbone"
    init_up: Init = "backbone"

    @model_validator(mode="after")
    def _divisible(self) -> "Bottleneck":
        if self.arrange == "plain" and self.heads != 1:
            raise ValueError(f"arrange='plain' has one head, heads={self.heads} given; use arrange='down' or heads=1")
        if self.arrange != "up" and self.r % self.heads:
            raise ValueError(f"rank {self.r} is not divisible by heads {self.heads}")
        if self.phm and self.heads != 1:
            raise ValueError(f"phm={self.phm} goes with one head, heads={self.heads} given")
        if self.phm and "normal" in (self.init, self.init_up):
            raise ValueError("phm matrices have a start of their own; leave init at 'backbone' (or init_up at 'zeros')")
        if self.phm and self.r % self.phm:
            raise ValueError(f"rank {self.r} is not divisible by phm {self.phm}")
        return self

    def build(self, d_in: int, d_out: int, make: "Maker") -> "nn.Module":
        """The bottleneck ``b n d_in -> b n d_out``; MethodError where heads or phm do not divide a width."""
        from methods.blocks.bottleneck import Bottleneck as Block

        if self.arrange in ("up", "down_up", "pair") and d_out % self.heads:
            raise MethodError(f"output width {d_out} is not divisible by heads {self.heads} (arrange={self.arrange!r})")
        if self.phm and (d_in % self.phm or d_out % self.phm):
            raise MethodError(f"widths {d_in} and {d_out} are not both divisible by phm {self.phm}")
        down, up = self._matrices(d_in, d_out, make)
        return Block(down, up, act=self.act)

    def _matrices(self, d_in: int, d_out: int, make: "Maker") -> "tuple[nn.Module, nn.Module]":
        from methods.blocks.bottleneck import Pairs
        from methods.blocks.phm import PHM

        if self.phm:
            return PHM(self.phm, d_in, self.r, self.init, make), PHM(self.phm, self.r, d_out, self.init_up, make)
        down = make.linear(d_in, self.r, self.init)
        if self.arrange == "pair":
            return down, Pairs(self.heads, self.r, d_out, self.init_up, make)
        return down, make.linear(self.r, d_out, self.init_up)


class LoRA(Delta):
    """``(alpha / r) · B · A · dropout(x)`` beside a Linear (Hu et al., 2022)."""

    input: Literal["x"] = "x"
    r: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def build(self, d_in: int, d_out: int, make: "Maker") -> "nn.Module":
        """The low-rank map ``b n d_in -> b n d_out``, zero at the start."""
        from methods.blocks.lowrank import LowRank

        return LowRank(d_in, self.r, d_out, scale=self.alpha / self.r, dropout=self.dropout, make=make)


class Bias(Delta):
    """``ΔH`` = a trained vector, zero at the start: a bias for a module that has none."""

    def build(self, d_in: int, d_out: int, make: "Maker") -> "nn.Module":
        """The bias ``d_out``, whatever the input."""
        from methods.blocks.vector import Vector

        return Vector(d_out, make=make)


class Gate(Model):
    """A granularity matrix G: what it reads, its shape before broadcasting, and how it is squashed.

    ``out``: ``full`` b n d, ``token`` b n 1, ``channel`` d (a trained vector that reads nothing), ``scalar`` b 1 1.
    """

    kind: Literal["lowrank", "dense", "vector"]
    input: Literal["none", "x", "x+h", "x+hhat", "cat(x,h)", "cat(x,hhat)"] = "none"
    out: Literal["full", "token", "channel", "scalar"]
    squash: Literal["sigmoid", "one_plus", "one_plus_sigmoid", "none"] = "sigmoid"
    pool: Literal["none", "mean", "masked_mean"] = "none"
    r: int = Field(default=0, ge=0)
    init: Init | Literal["ones"] = "backbone"

    @model_validator(mode="after")
    def _possible(self) -> "Gate":
        if (self.kind == "vector") != (self.out == "channel") or (self.kind == "vector") != (self.input == "none"):
            raise ValueError(f"a {self.kind} gate with input {self.input!r} and out {self.out!r} cannot be had")
        if (self.out == "scalar") != (self.pool != "none"):
            raise ValueError(f"out='scalar' goes with a pool and only with it (out {self.out!r}, pool {self.pool!r})")
        if (self.kind == "lowrank") != (self.r > 0):
            raise ValueError(f"a rank goes with a lowrank gate and only with it (kind {self.kind!r}, r {self.r})")
        if self.init == "ones" and self.kind != "vector":
            raise ValueError(f"a {self.kind} gate cannot start at ones, only a vector can")
        return self

    def build(self, d_x: int, d_h: int, make: "Maker") -> "nn.Module":
        """The gate's module; MethodError where X and H have different widths and the gate adds them."""
        from methods.blocks.gates import Gate as Block

        if self.input.startswith("x+") and d_x != d_h:
            raise MethodError(f"a gate on {self.input!r} needs X and H of one width; here they have {d_x} and {d_h}")
        d_in = d_x + d_h if self.input.startswith("cat") else d_x
        d_out = d_h if self.out in ("full", "channel") else 1
        return Block(self, d_in, d_out, make=make)


class Patch(Part):
    """``H' = scale · G · (H + delta_scale · ΔH)`` at every site of ``at``, in every layer of ``layers``."""

    at: tuple[str, ...]
    layers: Literal["all"] | tuple[int, ...] = "all"
    delta: SerializeAsAny[Delta] | None = None
    delta_scale: float = 1.0
    gate: Gate | None = None
    scale: float = 1.0

    @field_validator("at")
    @classmethod
    def _known(cls, at: tuple[str, ...]) -> tuple[str, ...]:
        for site in at:
            if site not in SITES:
                raise ValueError(f"unknown site {site!r}{did_you_mean(site, SITES)}")
        return at

    @model_validator(mode="after")
    def _possible(self) -> "Patch":
        if self.delta is None and self.gate is None and self.scale == 1.0:
            raise ValueError("a patch needs a delta, a gate or a scale")
        if self.gate is not None and self.gate.pool != "none":
            for site in self.at:
                if site not in LAYER_SITES or not site.startswith("enc."):
                    # Cached generation shows a decoder site one token at a time, so a mean would be of that one.
                    raise ValueError(f"a pooled gate cannot stand at {site}; put it into encoder layers")
        return self

    def place(self, placement: "Placement") -> None:
        """One module per site and layer, with the hooks that feed it."""
        from methods.place import place_patch

        place_patch(self, placement)


class Trainable(Model):
    """What of the model itself is trained, next to the parts: everything else is frozen."""

    norms: tuple[Literal["enc", "dec"], ...] = ()
    biases: bool = False  # parameters with "bias" in their name, which on T5 is the relative position bias alone
    backbone: bool = False  # all of the language model
    visual_projector: bool = True


class Spec(Model):
    """A complete method for one backbone shape."""

    parts: tuple[SerializeAsAny[Part], ...] = ()
    trainable: Trainable = Trainable()
