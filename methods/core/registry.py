"""How a method gets its name: ``@method`` on a function from a backbone's shape to a Spec.

The function's keyword arguments, with their annotations and defaults, *are* the options a user may override. One file
in this folder (or one module named by an entry point of the group ``vlpet_bench.methods``) adds methods; nothing else
has to know of it.
"""

import inspect
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from methods.core.errors import MethodError, did_you_mean
from methods.core.shape import Shape
from methods.core.spec import Projector, Spec, reasons

ENTRY_POINTS = "vlpet_bench.methods"
FAMILIES = Path(__file__).resolve().parents[1]  # the folder whose modules are families of methods
WIDTH = 768  # the width at which the papers quote their ranks
SMALLEST = 4  # a rank that scaling does not go below: what heads and Kronecker products divide


class _ByWidth:
    """Marks an option whose default is quoted at width 768 and scales with the backbone's width."""


Rank = Annotated[int, Field(ge=0), _ByWidth()]
"""A rank: its default ``r`` becomes ``r · d // 768`` on a backbone of width d, though not below 4 if it was above; an
override is taken as it is."""
Alpha = Annotated[float, Field(gt=0), _ByWidth()]
"""A LoRA alpha: its default scales as a rank does, so that alpha / r stays; an override is taken as it is."""


def projector(
    *,
    projector: Literal["full", "frozen", "lowrank"] = "full",
    projector_rank: Rank = 96,
    projector_gate: Literal["none", "mul", "residual"] = "none",
) -> Projector:
    """The options that every method has: what becomes of the visual projector."""
    if projector == "lowrank":
        return Projector(train=projector, r=projector_rank, gate=projector_gate)
    if projector_gate != "none":
        raise MethodError(f"projector_gate={projector_gate!r} is for projector='lowrank', not for {projector!r}")
    return Projector(train=projector)


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser settings a paper's recipe gives a method."""

    lr: float
    weight_decay: float = 0.01
    task_prefix: bool = True


@dataclass(frozen=True, eq=False)
class RegisteredMethod:
    """A registered method: its builder, the defaults of its options, and the recipe's values for it."""

    name: str
    build: Callable[..., Spec]
    defaults: Mapping[str, Any]
    t5: Mapping[str, Any]
    optim: Mapping[str, OptimizerSettings]
    version: int
    order: int
    listed: bool
    about: str
    types: Mapping[str, Any] = field(repr=False)

    def __reduce__(self) -> Any:  # another process has registered it itself
        return _entry, (self.name,)

    def check(self, key: str, value: Any) -> Any:
        """``value`` in the type of option ``key``; MethodError names the option, its type and near matches."""
        if key not in self.types:
            raise MethodError(f"method {self.name!r} has no option {key!r}{did_you_mean(key, self.types)}")
        try:
            return TypeAdapter(self.types[key]).validate_python(value)
        except ValidationError as error:
            raise MethodError(f"method {self.name!r}: {reasons(error, key)}") from error

    def is_default(self, key: str, value: Any) -> bool:
        """Whether the override ``key=value`` says nothing new on any backbone."""
        default = self.defaults[key]
        return not _by_width(self.types[key]) and default == value == self.t5.get(key, default)


@dataclass(frozen=True)
class ResolvedMethod:
    """A method with its overrides, ready for any backbone. Made by :func:`get`."""

    entry: RegisteredMethod
    items: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The registered name (never an alias)."""
        return self.entry.name

    @property
    def version(self) -> int:
        """Raised when the same name and options come to mean something else."""
        return self.entry.version

    @property
    def overrides(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name, in alphabetical order."""
        return dict(self.items)

    @property
    def describe(self) -> str:
        """What the method is, where its numbers come from, and its options."""
        return f"{self.entry.about}\n\n{inspect.getdoc(self.entry.build) or ''}".strip()

    def options(self, shape: Shape) -> dict[str, Any]:
        """Every option's value on a backbone of this shape."""
        values = dict(self.entry.defaults)
        if shape.family == "t5":
            values |= self.entry.t5
        for key, value in values.items():
            if _by_width(self.entry.types[key]) and value:
                exact = value * shape.d / WIDTH
                values[key] = max(min(value, SMALLEST), int(exact)) if isinstance(value, int) else exact
        return values | self.overrides

    def spec(self, shape: Shape) -> Spec:
        """The method on a backbone of this shape; MethodError where the options do not go together."""
        options = self.options(shape)
        shared = {key: options.pop(key) for key in COMMON}
        try:
            spec = self.entry.build(shape, **options).model_copy(update={"projector": projector(**shared)})
            spec.check(shape)
            return spec
        except MethodError as error:
            raise MethodError(f"method {self.name!r}: {error}") from error

    def optim(self, family: str, suite: str) -> OptimizerSettings:
        """The paper recipe's values on a backbone family ("bart", "t5") and suite ("image-text", "video-text")."""
        table = self.entry.optim
        found = table.get(f"{family} {suite}") or table.get(family)
        if found is None:
            raise MethodError(f"method {self.name!r} has no optimiser settings for {family} on {suite}")
        return found


_entries: dict[str, RegisteredMethod] = {}
_aliases: dict[str, str] = {}


def method(
    name: str,
    *,
    optim: Mapping[str, OptimizerSettings],
    about: str = "",
    defaults: Mapping[str, Any] | None = None,
    t5: Mapping[str, Any] | None = None,
    aliases: tuple[str, ...] = (),
    version: int = 1,
    order: int = 50,
    listed: bool = True,
) -> Callable[[Callable[..., Spec]], Callable[..., Spec]]:
    """Register the decorated ``build(shape, *, option=default, ...) -> Spec`` as a method called ``name``.

    Args:
        name: what users write.
        optim: recipe values by ``"bart image-text"``, ``"bart video-text"``, ... or by family alone.
        about: a line on this preset, in front of the function's docstring.
        defaults: option defaults of this preset where it differs from the function's own, so that one function can
            stand behind several names.
        t5: option defaults that differ on T5.
        aliases: other names for it.
        version: raise it when the meaning of the name changes.
        order: where tables list it; low comes first.
        listed: whether a list of methods has it without being asked for all.
    """

    def register(build: Callable[..., Spec]) -> Callable[..., Spec]:
        options = {**_options(build), **COMMON}
        entry = RegisteredMethod(
            name=name,
            build=build,
            defaults={p.name: p.default for p in options.values()} | dict(defaults or {}),
            t5=dict(t5 or {}),
            optim=dict(optim),
            version=version,
            order=order,
            listed=listed,
            about=about,
            types={p.name: p.annotation for p in options.values()},
        )
        for table in (entry.defaults, entry.t5):
            for key, value in table.items():
                entry.check(key, value)
        for known in (name, *aliases):
            if known in _entries or known in _aliases:
                raise MethodError(f"two methods are called {known!r}")
        _entries[name] = entry
        _aliases.update(dict.fromkeys(aliases, name))
        return build

    return register


def _options(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(build, eval_str=True).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


COMMON = _options(projector)


def names() -> list[str]:
    """Names of all methods, family by family in the order in which tables list them; aliases are left out."""
    _discover()
    return [entry.name for entry in sorted(_entries.values(), key=lambda e: e.order)]


def get(name: str, **overrides: Any) -> ResolvedMethod:
    """The method called ``name`` with some of its options overridden.

    >>> get("vl-pet-large", heads=2, scale=1.0).overrides
    {'heads': 2, 'scale': 1.0}

    Raises MethodError, with near matches, for an unknown name or option, and for a value of the wrong type.
    """
    entry = _entry(name)
    checked = {key: entry.check(key, value) for key, value in sorted(overrides.items())}
    return ResolvedMethod(
        entry, tuple((key, value) for key, value in checked.items() if not entry.is_default(key, value))
    )


def _entry(name: str) -> RegisteredMethod:
    _discover()
    entry = _entries.get(_aliases.get(name, name))
    if entry is None:
        raise MethodError(f"unknown method {name!r}{did_you_mean(name, [*names(), *_aliases])}")
    return entry


def _by_width(annotation: Any) -> bool:
    return any(isinstance(mark, _ByWidth) for mark in getattr(annotation, "__metadata__", ()))


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules([str(FAMILIES)]):
        if module.name not in ("core", "blocks"):
            import_module(f"methods.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # a broken plug-in must not take the other methods away
            warnings.warn(f"methods of {point.value!r} are left out: {error}", stacklevel=3)
