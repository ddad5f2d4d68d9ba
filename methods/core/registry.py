"""How a method gets its name: ``@method`` on a function from a backbone's shape to a Spec.

The function's keyword arguments, with their annotations and defaults, *are* the options that a user may override. To
add methods, put one file (or a folder with an ``__init__.py``) into ``methods/``, or name a module of your own in an
entry point of the group ``vlpet_bench.methods``, or give the command line a file; nothing else has to change.
"""

import hashlib
import importlib.util
import inspect
import math
import os
import pkgutil
import sys
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
FILES = "VLPET_BENCH_METHODS"  # environment variable: further files that register methods, separated as in PATH
FAMILIES = Path(__file__).resolve().parents[1]  # the folder whose modules are families of methods
WIDTH = 768  # the width at which the papers quote their ranks
SMALLEST = 4  # a rank that scaling does not go below: what heads and Kronecker products divide
LARGEST = 10**6  # number of an option: no rank, length or scale is larger


class _ByWidth:
    """Marks an option whose default is given for a backbone of width 768 and scales with the backbone's width."""


Rank = Annotated[int, Field(ge=0), _ByWidth()]
"""A rank. Its default ``r`` becomes ``r · d // 768`` on a backbone of width d, but not less than 4 unless it was less;
an override is used as it is."""
Alpha = Annotated[float, Field(gt=0), _ByWidth()]
"""A LoRA alpha. Its default scales as a rank does, so that alpha / r stays the same; an override is used as it is."""


def projector(
    *,
    projector: Literal["full", "frozen", "lowrank"] = "full",
    projector_rank: Rank = 96,
    projector_gate: Literal["none", "mul", "residual"] = "none",
) -> Projector:
    """Return what becomes of the visual projector; the keyword arguments are options that every method has."""
    if projector == "lowrank":
        return Projector(train=projector, r=projector_rank, gate=projector_gate)
    if projector_gate != "none":
        raise MethodError(f"projector_gate={projector_gate!r} is for projector='lowrank', not for {projector!r}")
    return Projector(train=projector)


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser settings that a paper's recipe gives a method.

    Attributes:
        lr: peak learning rate.
        weight_decay: of AdamW.
        task_prefix: whether a task's prompt stands in front of its source text.
    """

    lr: float
    weight_decay: float = 0.01
    task_prefix: bool = True


DEFAULT_OPTIMIZER = OptimizerSettings(3e-4)
"""The settings of a method on a backbone family and suite for which it names none. 3e-4 is the lower of the two rates
at which the VL-Adapter scripts train most methods (1e-3 on image-text with BART, 3e-4 on video-text and with T5): where
nothing has been tuned, a rate that is too low costs some score, one that is too high may cost the run."""


@dataclass(frozen=True, eq=False)
class RegisteredMethod:
    """What :func:`method` was told about a method; its arguments describe the attributes.

    ``build`` is the decorated function, ``types`` the annotations of its options by name.
    """

    name: str
    family: str
    build: Callable[..., Spec]
    defaults: Mapping[str, Any]
    t5: Mapping[str, Any]
    optim: Mapping[str, OptimizerSettings]
    version: int
    order: int
    listed: bool
    about: str
    types: Mapping[str, Any] = field(repr=False)
    _adapters: dict[str, TypeAdapter[Any]] = field(default_factory=dict, init=False, repr=False)

    def __reduce__(self) -> Any:  # another process looks it up in its own registry
        return _entry, (self.name,)

    def check(self, key: str, value: Any) -> Any:
        """Return ``value`` converted to the type of option ``key``.

        Raises MethodError for an option that the method does not have (with near matches) or a value of another type.
        """
        if key not in self.types:
            raise MethodError(f"method {self.name!r} has no option {key!r}{did_you_mean(key, self.types)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise MethodError(f"method {self.name!r}: {key}: {value} is no number that can be used")
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise MethodError(f"method {self.name!r}: {key}: expected at most {LARGEST:,} (given: {str(value)[:40]})")
        try:
            return self._adapter(key).validate_python(value)
        except ValidationError as error:
            raise MethodError(f"method {self.name!r}: {reasons(error, key)}") from error

    def _adapter(self, key: str) -> TypeAdapter[Any]:
        if key not in self._adapters:  # built when it is needed first: it takes as long as a hundred checks
            self._adapters[key] = TypeAdapter(self.types[key])
        return self._adapters[key]

    def is_default(self, key: str, value: Any) -> bool:
        """Return whether the override ``key=value`` changes nothing on any backbone."""
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
    def family(self) -> str:
        """The family of methods that it belongs to in tables and plots, such as "low rank"."""
        return self.entry.family

    @property
    def version(self) -> int:
        """The number that is raised when the same name and options come to mean something else."""
        return self.entry.version

    @property
    def overrides(self) -> dict[str, Any]:
        """The options that differ from their defaults, in alphabetical order."""
        return dict(self.items)

    @property
    def describe(self) -> str:
        """A text on what the method is, where its numbers come from, and its options."""
        return f"{self.entry.about}\n\n{inspect.getdoc(self.entry.build) or ''}".strip()

    def options(self, shape: Shape) -> dict[str, Any]:
        """Return the value of every option on a backbone of this shape."""
        values = dict(self.entry.defaults)
        if shape.family == "t5":
            values |= self.entry.t5
        for key, value in values.items():
            if _by_width(self.entry.types[key]) and value:
                exact = value * shape.d / WIDTH
                values[key] = max(min(value, SMALLEST), int(exact)) if isinstance(value, int) else exact
        return values | self.overrides

    def spec(self, shape: Shape) -> Spec:
        """Return the method on a backbone of this shape; MethodError where the options do not fit it or each other."""
        options = self.options(shape)
        shared = {key: options.pop(key) for key in COMMON}
        try:
            spec = self.entry.build(shape, **options).model_copy(update={"projector": projector(**shared)})
            spec.check(shape)
            return spec
        except MethodError as error:
            raise MethodError(f"method {self.name!r}: {error}") from error

    def optim(self, backbone_family: str, suite: str) -> OptimizerSettings:
        """Return the optimiser settings that the paper recipe takes from the method.

        They are those for the backbone family ("bart", "t5") and suite ("image-text", ...) where the method names them,
        else those for the backbone family, else :data:`DEFAULT_OPTIMIZER`.
        """
        table = self.entry.optim
        return table.get(f"{backbone_family} {suite}") or table.get(backbone_family) or DEFAULT_OPTIMIZER


class NameTaken(MethodError):
    """Two providers define a method of the same name."""


_entries: dict[str, RegisteredMethod] = {}
_aliases: dict[str, str] = {}
_names_of_files: dict[str, tuple[str, ...]] = {}


def method(
    name: str,
    *,
    family: str = "other",
    optim: Mapping[str, OptimizerSettings] | None = None,
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
        name: what users write; two methods cannot have the same.
        family: the methods that it stands together with in long tables and shares a colour and a marker with in plots:
            "reference", "VL-PET", "enhanced", "adapter", "low rank", "scale and bias", "prompt", "side network", or
            "other"; a new name is allowed.
        optim: optimiser settings of the paper recipe by ``"bart image-text"``, ``"bart video-text"``, ... or by
            backbone family alone. Where there are none, :data:`DEFAULT_OPTIMIZER` holds.
        about: a line on this preset, printed before the function's docstring.
        defaults: option defaults of this preset where it differs from the function's own, so that one function can
            stand behind several names.
        t5: option defaults that differ on T5.
        aliases: other names for it.
        version: raise it when the meaning of the name changes.
        order: its place in lists and tables; the lowest comes first. From 60 on stand methods without published numbers
            on these backbones, from 90 on variants of others.
        listed: whether a list of methods shows it when not all are asked for; False for what has no published numbers
            on these backbones.

    Raises:
        NameTaken: the name is taken; the message names both modules.
        MethodError: a default is not of its option's type.
    """

    def register(build: Callable[..., Spec]) -> Callable[..., Spec]:
        options = {**_options(build), **COMMON}
        entry = RegisteredMethod(
            name=name,
            family=family,
            build=build,
            defaults={p.name: p.default for p in options.values()} | dict(defaults or {}),
            t5=dict(t5 or {}),
            optim=dict(optim or {}),
            version=version,
            order=order,
            listed=listed,
            about=about,
            types={p.name: p.annotation for p in options.values()},
        )
        for table in (entry.defaults, entry.t5):
            for key, value in table.items():
                entry.check(key, value)
        for taken in (name, *aliases):
            if taken in _entries or taken in _aliases:
                other = _entries[_aliases.get(taken, taken)].build.__module__
                raise NameTaken(
                    f"two methods are called {taken!r}: that of module {other}, and that of module "
                    f"{build.__module__}; rename one of them or uninstall its package"
                )
        _entries[name] = entry
        _aliases.update(dict.fromkeys(aliases, name))
        return build

    return register


def _options(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(build, eval_str=True).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


COMMON = _options(projector)


def names() -> list[str]:
    """Return the names of all methods in the order in which tables list them, without aliases."""
    _discover()
    return [entry.name for entry in sorted(_entries.values(), key=lambda e: e.order)]


def get(name: str, **overrides: Any) -> ResolvedMethod:
    """Return the method called ``name`` with some of its options overridden.

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


def add_file(path: str) -> tuple[str, ...]:
    """Import a Python file that registers methods, once, and return their names.

    Processes that this one starts import it as well: the environment variable FILES names it.

    Raises:
        MethodError: the file cannot be imported, or registers no method.
    """
    _discover()
    real = os.path.realpath(path)
    names_of_file = _of_file(real)
    others = [file for file in os.environ.get(FILES, "").split(os.pathsep) if file and file != real]
    os.environ[FILES] = os.pathsep.join([*others, real])
    return names_of_file


def _of_file(path: str) -> tuple[str, ...]:
    if path in _names_of_files:
        return _names_of_files[path]
    if not os.path.isfile(path):
        raise MethodError(f"{path}: no such file of methods")
    entries, aliases = set(_entries), set(_aliases)
    name = f"vlpet_bench_methods_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    source = importlib.util.spec_from_file_location(name, path)
    assert source is not None and source.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(source)
    try:
        source.loader.exec_module(module)
        names_of_file = tuple(name for name in _entries if name not in entries)
        if not names_of_file:
            raise MethodError("it registers no method; decorate a function with @methods.method(NAME)")
    except (Exception, SystemExit) as error:
        _forget(entries, aliases)
        del sys.modules[name]
        reason = str(error) if isinstance(error, MethodError) else f"{type(error).__name__}: {error}"
        raise MethodError(f"{path}: cannot be used as a file of methods: {reason}") from error
    _names_of_files[path] = names_of_file
    return names_of_file


def _forget(entries: set[str], aliases: set[str]) -> None:
    """Take back what was registered beyond these names: half a plug-in is none."""
    for name in set(_entries) - entries:
        del _entries[name]
    for alias in set(_aliases) - aliases:
        del _aliases[alias]


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules([str(FAMILIES)]):
        if module.name not in ("core", "blocks"):
            import_module(f"methods.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        entries, aliases = set(_entries), set(_aliases)
        try:
            point.load()
        except (Exception, SystemExit) as error:
            _forget(entries, aliases)
            if isinstance(error, NameTaken):
                raise
            distribution = f" of {point.dist.name}" if point.dist else ""
            warnings.warn(f"entry point {point.value!r}{distribution} is left out: {error}", stacklevel=3)
    for path in filter(None, os.environ.get(FILES, "").split(os.pathsep)):
        _of_file(os.path.realpath(path))
