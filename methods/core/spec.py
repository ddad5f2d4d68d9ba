"""The schema of a method: parts that act at named sites of the backbone, and what else is trained.

A method is data. ``X`` is the input of a backbone sub-module, ``H`` its output; a :class:`Patch` returns

    H' = scale · G · (H + ΔH)        ΔH from ``delta``, G from ``gate``

which goes on to the backbone's own dropout, residual and norm (VL-PET, ICCV 2023, section 3). To add

- a new ΔH: a subclass of :class:`~methods.core.deltas.Delta` with a ``build``;
- a new G: a further ``kind`` of :class:`~methods.core.gate.Gate` and of :class:`~methods.blocks.gates.GateBlock`;
- something that is not a patch (a prompt, a side network, a penalty): a subclass of
  :class:`~methods.core.part.Part` with a ``place``.

The subclass stands in the file of the method that uses it; nothing else has to be told about it. Nothing in this module
imports torch at import time: ``build`` and ``place`` do so when a model is there.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from methods.core.deltas import Bias, Bottleneck, Delta, LoRA
from methods.core.errors import MethodError, did_you_mean
from methods.core.gate import Gate
from methods.core.part import Part
from methods.core.schema import FrozenSchema, Init, reasons
from methods.core.shape import LAYER_SITES, SITES, Shape

if TYPE_CHECKING:
    from methods.core.placement import Placement

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
DOWN = ("enc.ff.out", "dec.ff.out")  # the output of the FFN's second Linear
NORMS = ("enc", "dec", *(site.removesuffix(".ln") for site in SITES if site.endswith(".ln") and site != "vis.ln"))
BIASES = ("enc", "dec", *LINEARS, *DOWN)


class Patch(Part):
    """``H' = scale · G · (h_scale · H + ΔH)`` at every site of ``at``, in every layer of ``layers``.

    - ``delta`` and ``gate`` make ΔH and G; without a delta ΔH is 0, without a gate G is 1.
    - ``keep``: "x" puts X in the place of H, "none" puts 0 there. ``plus_x`` adds X to the result.
    - ``unused``: the modules are built and counted, but the data does not pass through them (a bug of the released
      code in some of its ablations).
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
    def _existing_sites(cls, at: tuple[str, ...]) -> tuple[str, ...]:
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
            if self.token_mixer and (site not in LAYER_SITES or site[:3] != "enc"):
                # Generation with a cache calls a decoder site with one token at a time: a mean would be of that one.
                raise ValueError(f"{self.token_mixer} cannot stand at {site}; put it into encoder layers")
        return self

    @property
    def formula(self) -> str:
        """H', ΔH and G, one line each."""
        base = {"h": "H", "x": "X", "none": ""}[self.keep]
        base = f"{self.h_scale:g} · {base}" if base and self.h_scale != 1.0 else base
        text = hhat = " + ".join(term for term in (base, "ΔH" if self.delta else "") if term)
        if self.gate is not None:
            text = self.gate.applied_to(hhat, base)
        text = text if self.scale == 1.0 else f"{self.scale:g} · ({text})"
        lines = [f"H' = {text}{' + X' if self.plus_x else ''}"]
        lines += [f"ΔH = {self.delta.formula}"] if self.delta else []
        lines += [f"G = {self.gate.formula}"] if self.gate and not self.gate.kind.endswith("norm") else []
        lines += ["built and counted, but not on the path of the data"] if self.unused else []
        return "\n".join(lines)

    @property
    def reads_x(self) -> bool:
        """Whether the delta, the gate or the sum reads X, the input of the block."""
        delta_reads_x = self.delta is not None and self.delta.input == "x"
        return delta_reads_x or self.keep == "x" or self.plus_x or (self.gate is not None and self.gate.reads_x)

    @property
    def token_mixer(self) -> str:
        """What in the patch lets a token's result depend on other tokens, in words; "" where nothing does."""
        if self.gate is not None and self.gate.pool != "none":
            return "a pooled gate"
        return f"a {type(self.delta).__name__}" if self.delta is not None and self.delta.needs_token_mask else ""

    @property
    def needs_token_mask(self) -> bool:
        """Whether the delta or the gate has to know which positions are padding."""
        delta_does = self.delta is not None and self.delta.needs_token_mask
        return delta_does or (self.gate is not None and self.gate.pool == "masked_mean")

    @property
    def reads_padding(self) -> bool:
        """Whether the gate is a mean over all positions, padding included, as in the official code."""
        return self.gate is not None and self.gate.pool == "mean"

    @property
    def per_task(self) -> bool:
        """Whether the delta has weights per task."""
        return self.delta is not None and self.delta.per_task

    @property
    def official_decay(self) -> Mapping[str, bool]:
        """What the delta states."""
        return {f"delta.{name}": value for name, value in self.delta.official_decay.items()} if self.delta else {}

    @property
    def in_encoder(self) -> bool:
        """Whether all its sites are in the encoder."""
        return all(site.startswith("enc.") for site in self.at)

    @property
    def mergeable(self) -> bool:
        """Whether it is LoRA beside a Linear, or a factor on the input or output of one."""
        if self.per_task or self.unused or (self.scale, self.h_scale, self.keep, self.plus_x) != (1.0, 1.0, "h", False):
            return False
        if isinstance(self.delta, LoRA):
            return self.gate is None and self.delta.input == "x" and set(self.at) <= {*LINEARS}
        vector = self.gate is not None and self.gate.kind == "vector" and self.gate.op == "mul" and self.delta is None
        return vector and set(self.at) <= {*LINEARS, "enc.ff.mid", "dec.ff.mid"}

    def check(self, shape: Shape) -> None:
        """Raise MethodError for a layer that does not exist, and where delta or gate do not fit a site's widths."""
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
        """Build one module per site and layer, and plan the hooks that call it."""
        from methods.blocks.folding import fold
        from methods.blocks.patched_site import PatchedSite
        from methods.core.patching import place_site

        shape, make = placement.sites.shape, placement.make
        delta_input = self.delta.input if self.delta is not None else "h"
        for site in self.at:
            d_x, d_h = shape.widths(site)
            d_in = d_x if delta_input == "x" else d_h
            for port in placement.sites.ports(site, self.layers):
                module = PatchedSite(
                    self.delta.build_for_site(d_in, d_h, make) if self.delta is not None else None,
                    self.gate.build(d_x, d_h, make) if self.gate is not None else None,
                    keep=self.keep,
                    h_scale=self.h_scale,
                    scale=self.scale,
                    plus_x=self.plus_x,
                    masked_delta=self.delta is not None and self.delta.needs_token_mask,
                )
                if self.unused:
                    placement.add_module(port.key, module)
                else:
                    place_site(
                        placement,
                        port,
                        module,
                        delta_input=delta_input,
                        reads_x=self.reads_x,
                        needs_token_mask=self.needs_token_mask,
                        needs_context=self.per_task,
                    )
                if self.mergeable:
                    placement.merge_steps.append(partial(fold, module, port.module, ahead=port.ahead))


class Trainable(FrozenSchema):
    """Which of the language model's own parameters are trained besides the parts; all others are frozen.

    - ``norms`` names stacks (``enc``) or kinds of norms (``dec.xa``: those of the cross-attention blocks; ``enc.end``:
      those outside the layers).
    - ``biases`` names stacks (every parameter with "bias" in its name, which is the official code's rule; on T5 that is
      the relative position bias alone) or Linears (``enc.ff.out``: the FFN's second).
    - ``backbone``: the whole language model.
    """

    norms: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    backbone: bool = False

    @field_validator("norms", "biases")
    @classmethod
    def _existing_names(cls, names: tuple[str, ...], info: Any) -> tuple[str, ...]:
        choices = NORMS if info.field_name == "norms" else BIASES
        for name in names:
            if name not in choices:
                raise ValueError(f"no {info.field_name} are called {name!r}{did_you_mean(name, choices)}")
        return names

    def check(self, shape: Shape) -> None:
        """Raise MethodError where a backbone of this shape has no such biases."""
        missing = [name for name in self.biases if name not in ("enc", "dec")]
        if shape.family == "t5" and missing:
            raise MethodError(f"T5 has no bias at {', '.join(missing)}; a Bias part puts one there (add_missing)")


class Projector(FrozenSchema):
    """What becomes of the visual projector: trained in ``full``, ``frozen``, or ``lowrank``.

    With ``lowrank`` its Linear on the features is replaced by a bottleneck ``F = W_up · gelu(W_down · feats)`` of rank
    ``r``; with ``gate`` "mul" by F ⊙ G, with "residual" by F + F ⊙ G, where G is σ of a second bottleneck on the
    features (VL-PET official code, ``lowrank_visual_projector``).
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
    """A complete method for a backbone of one shape: its parts, and what is trained besides them."""

    parts: tuple[SerializeAsAny[Part], ...] = ()
    trainable: Trainable = Trainable()
    projector: Projector = Projector()

    @property
    def official_decay(self) -> dict[str, bool]:
        """What the parts state about weight decay."""
        return {name: value for part in self.parts for name, value in part.official_decay.items()}

    @property
    def mergeable(self) -> bool:
        """Whether the method can be folded into the backbone's weights, so that inference costs nothing more."""
        return all(part.mergeable for part in self.parts) and self.projector.train != "lowrank"

    @property
    def per_task(self) -> bool:
        """Whether some weights belong to one task, so that whoever runs the model has to name the current task."""
        return any(part.per_task for part in self.parts)

    @property
    def exact_with_cache(self) -> bool:
        """Whether decoding with a cache of keys and values gives the same result as decoding without one."""
        return all(part.exact_with_cache for part in self.parts)

    @property
    def reads_padding(self) -> bool:
        """Whether an example's result depends on how much padding stands behind it."""
        return any(part.reads_padding for part in self.parts)

    @property
    def needs_wrapper(self) -> bool:
        """Whether the method needs the vision-language wrapper and cannot be attached to a language model alone."""
        return any(part.needs_wrapper for part in self.parts)

    @property
    def encoder_only(self) -> bool:
        """Whether the decoder and the output layer stay as they were, so that they can be shared between methods."""
        unfrozen = (*self.trainable.norms, *self.trainable.biases)
        in_encoder = all(part.in_encoder for part in self.parts) and all(name.startswith("enc") for name in unfrozen)
        return in_encoder and not self.trainable.backbone

    def check(self, shape: Shape) -> None:
        """Raise MethodError where a backbone of this shape cannot have the method."""
        for part in self.parts:
            part.check(shape)
        self.trainable.check(shape)
