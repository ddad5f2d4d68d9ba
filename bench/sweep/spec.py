"""A sweep: what a person asks, and the runs that follow from it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

import methods
from bench import tasks
from bench.config import Frozen, Run, recipe_table, resolve, split_settings, validated
from bench.errors import UsageError, unknown
from methods.errors import MethodError

SWEEPS = Path(__file__).resolve().parents[1] / "sweeps"


class Variant(Frozen):
    """A method with settings of its own, under a label of its own."""

    label: str
    method: str
    set: Mapping[str, Any] = Field(default_factory=dict)


class Sweep(Frozen):
    """The fields of a sweep file. The runs are the product backbones x (methods, variants) x suites x seeds.

    ``set`` holds settings for every run; ``per`` refines them by method or suite name, the method being the stronger.
    """

    name: str
    backbones: tuple[str, ...] = ("mini-bart",)
    methods: tuple[str, ...] = ()
    suites: tuple[str, ...] = ("image-text", "video-text")
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    recipe: str | None = None
    data: str | None = None
    set: Mapping[str, Any] = Field(default_factory=dict)
    per: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    variant: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One planned cell: a run, or the reason why this combination cannot be had."""

    method: str
    label: str
    backbone: str
    suite: str
    seed: int
    tasks: tuple[str, ...]
    run: Run | None
    reason: str = ""

    @property
    def run_id(self) -> str:
        """The run's id, or a name for a cell that cannot run."""
        return self.run.id if self.run else f"unsupported-{self.label}-{self.backbone}-{self.suite}-s{self.seed}"


def names() -> list[str]:
    """Return the names of the built-in sweeps."""
    return sorted(path.stem for path in SWEEPS.glob("*.toml"))


def load(wanted: str) -> Sweep:
    """Read a sweep: a built-in one by name, or a TOML file by path.

    Raises:
        UsageError: unknown name, broken TOML, or a field that is wrong; near matches are named.
    """
    path = Path(wanted) if wanted.endswith(".toml") else SWEEPS / f"{wanted}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if wanted.endswith(".toml"):
            raise UsageError(f"{wanted}: no such sweep file; built-in sweeps: {', '.join(names())}") from None
        raise unknown("sweep", wanted, names()) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from None
    return validated(Sweep, {"name": path.stem, **content}, str(path))


def changed(sweep: Sweep, **flags: Any) -> Sweep:
    """Return the sweep with those flags of the command line that were given (not None)."""
    given = {key: value for key, value in flags.items() if value is not None}
    return sweep.model_copy(update=given)


def expand(sweep: Sweep) -> list[Cell]:
    """Return the cells of a sweep in their order, which is the order of its tables.

    A combination that a method does not offer (an option it lacks, a size that does not fit the backbone) is a cell
    without a run, whose reason is the method's.

    Raises:
        UsageError: an unknown name or setting, or a value of the wrong type; nothing has run yet.
        MethodError: an unknown method, an option that none of the methods has, or an option's value of the wrong type.
    """
    chosen = [Variant(label="", method=name) for name in _methods(sweep)] + list(sweep.variant)
    if not chosen:
        raise UsageError(f"sweep {sweep.name!r} names no method; add methods = [...] or --methods")
    for suite in sweep.suites:
        tasks.suite(suite)
    for name in sweep.tasks:
        tasks.get(name)
    if sweep.recipe:
        recipe_table(sweep.recipe)
    everyone = [methods.get(variant.method).name for variant in chosen]
    split_settings(sweep.set, everyone)
    for variant in chosen:
        split_settings(variant.set, [variant.method])
    for key, settings in sweep.per.items():
        if key in methods.names():
            split_settings(settings, [key])
        elif key in tasks.suites():
            split_settings(settings, everyone)
        else:
            raise unknown("name in [per]", key, [*tasks.suites(), *everyone])
    cells: dict[str, Cell] = {}
    for backbone in sweep.backbones:
        for suite in _suites(sweep):
            for variant in chosen:
                for seed in sweep.seeds:
                    cell = _cell(sweep, backbone, suite, variant, seed, everyone)
                    cells.setdefault(cell.run_id, cell)
    if not cells:
        raise UsageError(f"sweep {sweep.name!r} selects nothing: no backbone, suite or seed, or no suite has the tasks")
    return list(cells.values())


def _methods(sweep: Sweep) -> list[str]:
    return methods.names() if sweep.methods == ("all",) else [methods.get(name).name for name in sweep.methods]


def _suites(sweep: Sweep) -> list[str]:
    """The suites that have one of the wanted tasks, if only some are wanted."""
    return [s for s in sweep.suites if not sweep.tasks or set(tasks.names(s)) & set(sweep.tasks)]


def _cell(sweep: Sweep, backbone: str, suite: str, variant: Variant, seed: int, everyone: list[str]) -> Cell:
    wanted = tuple(name for name in tasks.names(suite) if name in sweep.tasks)
    entry = methods.get(variant.method).entry
    settings: dict[str, Any] = {}
    for layer in (sweep.set, sweep.per.get(suite, {}), sweep.per.get(entry.name, {}), variant.set):
        recipe, options = split_settings(layer, everyone)
        for key in set(options) & set(entry.types):
            entry.check(key, options[key])
        settings |= {f"recipe.{key}": value for key, value in recipe.items()}
        settings |= {f"method.{key}": value for key, value in options.items()}
    shared: dict[str, Any] = {"method": entry.name, "backbone": backbone, "suite": suite, "seed": seed}
    shared["tasks"] = wanted or tuple(tasks.names(suite))
    try:
        run = resolve(
            backbone,
            entry.name,
            suite,
            seed=seed,
            data=sweep.data,
            recipe=sweep.recipe,
            tasks_=wanted,
            settings=settings,
            label=variant.label or None,
        )
    except MethodError as reason:
        return Cell(label=variant.label or entry.name, run=None, reason=str(reason), **shared)
    return Cell(label=run.title, run=run, **shared)
