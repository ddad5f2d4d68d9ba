"""The schema of a method: parts that act at named sites of the backbone, and what else is trained.

A method is data. ``X`` is the input of a backbone sub-module, ``H`` its output; a :class:`Patch` returns

    H' = scale * G * (H + ΔH)        ΔH from ``delta``, G from ``gate``

which goes on to the backbone's own dropout, residual and norm (ICCV 2023, VL-PET, section 3). A new kind of ``ΔH`` is a
subclass of :class:`Delta` with a ``build``; something that is not a patch (a prompt, a side network) a subclass of
:class:`Part` with a ``place``. Neither needs a change anywhere else.

Nothing here imports torch: ``build`` and ``place`` do so when a model is there.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from methods.core.deltas import Bias, Bottleneck, Delta, LoRA
from methods.core.errors import MethodError, did_you_mean
from methods.core.schema import FrozenSchema, Init, reasons
from methods.core.shape import LAYER_SITES, SITES, Shape

if TYPE_CHECKING:
    from torch import nn

    from methods.blocks.layer_factory import LayerFactory
    from methods.core.attach import Placement

__all__ = [
    "BIASES",
    "LAYER_SITES",
    "NORMS",
    "SITES",
    "Bias",
    "Bottleneck",
    "Delta",
    "FrozenSchema",
    "Gate",
    "Init",
    "LoRA",
    "Part",
    "Patch",
    "Projector",
    "Spec",
    "Trainable",
    "reasons",
]  # fmt: skip

LINEARS = tuple(site for site in LAYER_SITES if site.split(".")[-1] in ("q", "k", "v", "o", "up"))
DOWN = ("enc.ff.out", "dec.ff.out")  # what the FFN's second Linear returns
NORMS = ("enc", "dec", *(site.removesuffix(".ln") for site in SITES if site.endswith(".ln") and site != "vis.ln"))
BIASES = ("enc", "dec", *LINEARS, *DOWN)


class Part(FrozenSchema):
    """Something a method puts into the backbone."""

    @property
    def routed(self) -> bool:
        """Whether it holds weights per task."""
        return False

    @property
    def merges(self) -> bool:
        """Whether it can be folded into the backbone's weights."""
        return False

    @property
    def cached(self) -> bool:
        """Whether decoding with a cache of keys and values gives what decoding without one does."""
        return True

    @property
    def in_encoder(self) -> bool:
        """Whether it acts in the encoder alone."""
        return False

    @property
    def wrapped(self) -> bool:
        """Whether it acts where a wrapper joins text and visual tokens, so that no bare language model can have it."""
        return False

    def check(self, shape: Shape) -> None:
        """Raise MethodError where a backbone of this shape cannot have it."""

    def place(self, placement: "Placement") -> None:
        """Build the modules and plan their hooks; the model itself is not touched here."""
        raise NotImplementedError


class Gate(FrozenSchema):
    """A granularity matrix G: what it reads, its shape before broadcasting, how it is squashed, and what it does.

    ``out``: ``full`` b n d, ``token`` b n 1, ``channel`` d (a trained vector that reads nothing), ``scalar`` b 1 1. The
    kind ``self`` is σ(ΔH). With ``op`` "mul" H' = G ⊙ Ĥ, with "add" H' = Ĥ + G; ``target`` "h" applies it to H alone
    and adds ΔH afterwards. The kinds ``layernorm`` (trained) and ``l2norm`` stand in a gate's place and normalise Ĥ.
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
    init: Init | Literal["ones"] = "backbone"  # of the last layer, or the vector

    @model_validator(mode="after")
    def _possible(self) -> "Gate":
        reads = self.kind in ("lowrank", "dense")
        if (self.kind == "vector") != (self.out == "channel") or reads != (self.input != "none"):
            raise ValueError(f"a {self.kind} gate with input {self.input!r} and out {self.out!r} cannot be had")
        if not reads and self.kind != "vector" and self.out != "full":
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
        """G with what it reads."""
        read = {"cat(x,h)": "[X ; H]", "cat(x,hhat)": "[X ; Ĥ]"}.get(self.input)
        read = read or " + ".join({"x": "X", "h": "H", "hhat": "Ĥ"}.get(part, part) for part in self.input.split("+"))
        read = f"({read})" if "+" in read else read
        body = {
            "vector": "z",
            "self": "ΔH",
            "dense": f"W · {read} + b",
            "lowrank": f"V_up · gelu_tanh(V_down · {read} + c_down) + c_up",
        }[self.kind]
        text = {"sigmoid": f"σ({body})", "one_plus": f"1 + {body}", "one_plus_sigmoid": f"1 + σ({body})", "none": body}
        pooled = {"none": "", "mean": "mean over all positions of ", "masked_mean": "mean over tokens of "}[self.pool]
        size = {"full": "b x n x d", "token": "b x n x 1", "channel": "d", "scalar": "b x 1 x 1"}[self.out]
        return f"{pooled}{text[self.squash]}   ({size}{f', rank {self.r}' if self.r else ''})"

    def around(self, hhat: str, h: str) -> str:
        """What becomes of ``hhat`` = ``h`` + ΔH."""
        if self.kind == "layernorm":
            return f"LayerNorm({hhat})"
        if self.kind == "l2norm":
            return f"({hhat}) / |{hhat}|"
        sign = "⊙" if self.op == "mul" else "+"
        return f"G {sign} ({hhat})" if self.target == "hhat" else f"ΔH + G {sign} {h}"

    @property
    def reads_x(self) -> bool:
        """Whether it reads what enters the block."""
        return "x" in self.input

    def check(self, d_x: int, d_h: int) -> None:
        """Raise MethodError where X and H have different widths and the gate adds them."""
        if self.input.startswith("x+") and d_x != d_h:
            raise MethodError(f"a gate on {self.input!r} needs X and H of one width; here they have {d_x} and {d_h}")

    def build(self, d_x: int, d_h: int, make: "LayerFactory") -> "nn.Module":
        """The gate's module."""
        from methods.blocks.gates import Gate as Block

        d_in = d_x + d_h if self.input.startswith("cat") else d_x if self.reads_x else d_h
        d_out = d_h if self.out in ("full", "channel") else 1
        return Block(self, d_in, d_out, make=make)


class Patch(Part):
    """``H' = scale · G · (h_scale · H + ΔH)`` at every site of ``at``, in every layer of ``layers``.

    ``keep`` "x" puts X in the place of H, "none" nothing; ``plus_x`` adds X to the result. An ``unused`` patch is built
    and counted and does nothing (a bug of the released code that some of its ablations have).
    """

    at: tuple[str, ...]
    layers: Literal["all"] | tuple[int, ...] = "all"
    delta: SerializeAsAny[Delta] | None = None
    h_scale: float = 1.0
    keep: Literal["h", "x", "none"] = "h"
    gate: Gate | None = None
    scale: float = 1.0
    plus_x: bool = False
    unused: bool = False

    @field_validator("at")
    @classmethod
    def _known(cls, at: tuple[str, ...]) -> tuple[str, ...]:
        for site in at:
            if site not in SITES:
                raise ValueError(f"unknown site {site!r}{did_you_mean(site, SITES)}")
        return at

    @model_validator(mode="after")
    def _possible(self) -> "Patch":
        if self.delta is None and self.gate is None and (self.scale, self.h_scale, self.plus_x) == (1.0, 1.0, False):
            raise ValueError("a patch needs a delta, a gate or a scale")
        if self.gate is not None and (self.gate.kind == "self" or self.gate.target == "h") and self.delta is None:
            raise ValueError("this gate goes with a delta, and the patch has none")
        if self.keep == "none" and self.delta is None:
            raise ValueError("keep='none' leaves nothing where there is no delta")
        for site in self.at:
            if self.reads_x and site.endswith((".mid", ".ln", ".kv")):
                raise ValueError(f"{site} has no X: only its own output can be read there, by delta or gate")
            if self.delta is not None and self.delta.input in ("x_norm", "block") and not site.endswith(".out"):
                raise ValueError(f"input {self.delta.input!r} is for the outputs of blocks, not for {site}")
            if self.looks_along and (site not in LAYER_SITES or site[:3] != "enc"):
                # Cached generation shows a decoder site one token at a time, so a mean would be of that one.
                raise ValueError(f"{self.looks_along} cannot stand at {site}; put it into encoder layers")
        return self

    @property
    def formula(self) -> str:
        """H' with its ΔH and G."""
        kept = {"h": "H", "x": "X", "none": ""}[self.keep]
        kept = f"{self.h_scale:g} · {kept}" if kept and self.h_scale != 1.0 else kept
        text = hhat = " + ".join(part for part in (kept, "ΔH" if self.delta else "") if part)
        if self.gate is not None:
            text = self.gate.around(hhat, kept)
        text = text if self.scale == 1.0 else f"{self.scale:g} · ({text})"
        lines = [f"H' = {text}{' + X' if self.plus_x else ''}"]
        lines += [f"ΔH = {self.delta.formula}"] if self.delta else []
        lines += [f"G = {self.gate.formula}"] if self.gate and not self.gate.kind.endswith("norm") else []
        lines += ["built and counted, but not on the path of the data"] if self.unused else []
        return "\n".join(lines)

    @property
    def reads_x(self) -> bool:
        """Whether delta, gate or sum take what enters the block."""
        delta = self.delta is not None and self.delta.input == "x"
        return delta or self.keep == "x" or self.plus_x or (self.gate is not None and self.gate.reads_x)

    @property
    def looks_along(self) -> str:
        """What of it looks beyond one token, in words; empty where nothing does."""
        if self.gate is not None and self.gate.pool != "none":
            return "a pooled gate"
        return f"a {type(self.delta).__name__}" if self.delta is not None and self.delta.masked else ""

    @property
    def routed(self) -> bool:
        """Whether the delta holds weights per task."""
        return self.delta is not None and self.delta.routed

    @property
    def in_encoder(self) -> bool:
        """Whether all its sites are in the encoder."""
        return all(site.startswith("enc.") for site in self.at)

    @property
    def merges(self) -> bool:
        """LoRA beside a Linear and a factor on what one gives or takes can be folded into its weights."""
        if self.routed or self.unused or (self.scale, self.h_scale, self.keep, self.plus_x) != (1.0, 1.0, "h", False):
            return False
        if isinstance(self.delta, LoRA):
            return self.gate is None and self.delta.input == "x" and set(self.at) <= {*LINEARS}
        vector = self.gate is not None and self.gate.kind == "vector" and self.gate.op == "mul" and self.delta is None
        return vector and set(self.at) <= {*LINEARS, "enc.ff.mid", "dec.ff.mid"}

    def check(self, shape: Shape) -> None:
        """Raise MethodError for a layer that is not there, and where delta or gate do not go with a site's widths."""
        for site in self.at:
            count = shape.layers(site)
            for layer in () if self.layers == "all" else self.layers:
                if not 0 <= layer < count:
                    raise MethodError(f"site {site!r} has layers 0 to {count - 1}, not {layer}")
            d_x, d_h = shape.widths(site)
            try:
                if self.delta is not None:
                    self.delta.check(d_x if self.delta.input == "x" else d_h, d_h)
                if self.gate is not None:
                    self.gate.check(d_x, d_h)
            except MethodError as error:
                raise MethodError(f"at {site}: {error}") from error
            if (self.keep == "x" or self.plus_x) and d_x != d_h:
                raise MethodError(f"at {site}: X has width {d_x} and H {d_h}, so they cannot be added")

    def place(self, placement: "Placement") -> None:
        """One module per site and layer, with the hooks that feed it."""
        from methods.core.attach import place_patch

        place_patch(self, placement)


class Trainable(FrozenSchema):
    """What of the language model itself is trained, next to the parts: everything else is frozen.

    ``norms`` names stacks (``enc``) or kinds of norms (``dec.xa``: those of its cross-attention blocks; ``enc.end``:
    those outside the layers). ``biases`` names stacks (every parameter with "bias" in its name, as the official rule
    has it, which on T5 is the relative position bias alone) or Linears (``enc.ff.out``: the FFN's second).
    """

    norms: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    backbone: bool = False  # all of the language model

    @field_validator("norms", "biases")
    @classmethod
    def _known(cls, names: tuple[str, ...], info: Any) -> tuple[str, ...]:
        known = NORMS if info.field_name == "norms" else BIASES
        for name in names:
            if name not in known:
                raise ValueError(f"no {info.field_name} are called {name!r}{did_you_mean(name, known)}")
        return names

    def check(self, shape: Shape) -> None:
        """Raise MethodError where a backbone has no such biases."""
        missing = [name for name in self.biases if name not in ("enc", "dec")]
        if shape.family == "t5" and missing:
            raise MethodError(f"T5 has no bias at {', '.join(missing)}; a Bias part puts one there (add_missing)")


class Projector(FrozenSchema):
    """The visual projector: ``full``, ``frozen``, or ``lowrank`` with its feature Linear replaced by a bottleneck.

    The bottleneck is ``F = W_up · gelu(W_down · feats)`` with rank ``r``; with ``gate`` "mul" F ⊙ G, with "residual"
    F + F ⊙ G, where G = σ of a second bottleneck of the features (VL-PET official code, ``lowrank_visual_projector``).
    """

    train: Literal["full", "frozen", "lowrank"] = "full"
    r: int = Field(default=0, ge=0)
    gate: Literal["none", "mul", "residual"] = "none"

    @model_validator(mode="after")
    def _possible(self) -> "Projector":
        if (self.train == "lowrank") != (self.r > 0) or (self.gate != "none" and not self.r):
            raise ValueError(f"rank and gate go with train='lowrank' (train {self.train!r}, r {self.r}, {self.gate!r})")
        return self


class Spec(FrozenSchema):
    """A complete method for one backbone shape."""

    parts: tuple[SerializeAsAny[Part], ...] = ()
    trainable: Trainable = Trainable()
    projector: Projector = Projector()

    @property
    def merges(self) -> bool:
        """Whether the method can be folded into the backbone's weights, so that it costs nothing afterwards."""
        return all(part.merges for part in self.parts) and self.projector.train != "lowrank"

    @property
    def routed(self) -> bool:
        """Whether it holds weights per task, so that whoever runs the model has to name the task."""
        return any(part.routed for part in self.parts)

    @property
    def cached(self) -> bool:
        """Whether decoding with a cache of keys and values gives what decoding without one does."""
        return all(part.cached for part in self.parts)

    @property
    def encoder_only(self) -> bool:
        """Whether nothing of the decoder or the output layer is changed: encoder states may be computed once."""
        own = (*self.trainable.norms, *self.trainable.biases)
        in_encoder = all(part.in_encoder for part in self.parts) and all(name.startswith("enc") for name in own)
        return in_encoder and not self.trainable.backbone

    def check(self, shape: Shape) -> None:
        """Raise MethodError where a backbone of this shape cannot have it."""
        for part in self.parts:
            part.check(shape)
        self.trainable.check(shape)
