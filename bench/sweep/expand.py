"""From a sweep to its cells: which run each is, or why it cannot be had. Nothing is built and nothing is read."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import methods
from bench import backbones, suites, tasks
from bench.config import Recipe, ResolveSources, Run, Settings, classify_key, recipe_for, resolve
from bench.errors import UsageError, unknown
from bench.recipe_files import recipe_names, recipe_table
from bench.suites import Suite
from bench.sweep.axes import NamedCell, grid, number_of_points, stay, words, written
from bench.sweep.expressions import is_expression, names_in, solved
from bench.sweep.spec import Cell, Sweep, Variant, check_file_name, deltas
from bench.toml_files import shortened
from methods.core.errors import MethodError

PLACES = ("method", "tasks", "data", "recipe")  # axes that are neither a recipe field nor an option
LISTS = {"seed": "seeds", "suite": "suites", "backbone": "backbones"}  # fields of a run that are no axis


@dataclass(frozen=True)
class Change:
    """What a cell changes of its base: values on the axes, or the settings of a delta, whose word names it.

    ``kinds`` says of each key, other than PLACES, whether it is a recipe field or an option, and its plain name.
    """

    values: Mapping[str, Any]
    word: str = ""
    kinds: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def settings(self, values: Mapping[str, Any]) -> Settings:
        """Return those of the change's values that are recipe fields and options, once they are computed."""
        classified: dict[str, dict[str, Any]] = {"recipe": {}, "options": {}}
        for key, (kind, name) in self.kinds.items():
            if key in values:
                classified[kind][name] = values[key]
        return Settings(**classified)


BASE = Change({})


def expand(sweep: Sweep) -> list[Cell]:
    """Return the cells of a sweep in their order, which is the order of its tables: a base before its changes.

    A combination that a method does not offer (an option it lacks, a size that does not fit the backbone) is a cell
    without a run, whose reason is the method's. A point of the axes that is its base is the base's cell.

    Raises:
        UsageError: an unknown name or setting, or a value of the wrong type; nothing has run yet.
        MethodError: an unknown method, an option that none of the methods has, or an option's value of the wrong type.
    """
    try:
        return _expanded(sweep)
    except (UsageError, MethodError) as fault:
        if not sweep.origin or str(fault).startswith(sweep.origin):
            raise
        raise type(fault)(f"{sweep.origin}: {fault}") from None


def _expanded(sweep: Sweep) -> list[Cell]:
    named = [Variant.model_construct(label="", method=name) for name in _methods(sweep)]
    variants = [*named, *sweep.variant]
    if not variants:
        raise UsageError(f"sweep {sweep.name!r} names no method; add methods = [...] or --methods")
    if sweep.steps and not sweep.axes:
        raise UsageError(f"zip: {', '.join(sweep.steps[0])}: there are no axes; add them with axes = {{...}} or --axis")
    layers = _Layers(sweep, variants)
    _check_labels(layers)
    _check_size(sweep, len(variants))
    changes = [BASE, *_changes(sweep, layers.method_names)]
    cells: dict[tuple[str, str], Cell] = {}
    rows: dict[tuple[str, str, str, str, int], str] = {}
    for backbone in dict.fromkeys(map(backbones.canonical_name, sweep.backbones)):
        for suite in _suites(sweep):
            for variant, settings in layers.variants:
                for cell in _Base(layers, backbone, suite, variant, settings).cells(changes):
                    row = (cell.base, cell.label, cell.backbone, cell.suite, cell.seed)
                    if rows.setdefault(row, cell.run_id) != cell.run_id:
                        raise UsageError(f"two different runs are called {shortened(cell.label)!r}; name them apart")
                    key = (cell.run_id, cell.base)
                    before = cells.setdefault(key, cell)
                    if not before.point:
                        cells[key] = replace(before, point=cell.point)
    if not cells:
        raise UsageError(f"sweep {sweep.name!r} selects nothing: no backbone, suite or seed, or no suite has the tasks")
    if not sweep.only and not sweep.but:
        return list(cells.values())
    stays = stay([_named(cell) for cell in cells.values()], sweep.only, sweep.but)
    if not any(stays):
        raise UsageError(f"sweep {sweep.name!r}: its filters leave no cell")
    return [cell for cell, is_left in zip(cells.values(), stays, strict=True) if is_left]


def base_values(sweep: Sweep, names: Iterable[str] = ()) -> list[Mapping[str, Any]]:
    """Return every value of every base of a sweep, as axes and expressions name them: what a search need not try.

    Raises:
        UsageError: one of ``names`` is the name of no axis, or the sweep has an unknown name.
    """
    variants = [*(Variant.model_construct(label="", method=name) for name in _methods(sweep)), *sweep.variant]
    layers = _Layers(sweep, variants)
    for name in names:
        classify_key(name, layers.method_names)
    return [
        _Base(layers, backbone, suite, variant, settings).values
        for backbone in sweep.backbones
        for suite in _suites(sweep)
        for variant, settings in layers.variants
    ]


def _check_labels(layers: "_Layers") -> None:
    """Refuse variants that a table could not tell from another variant or method, or that have the name of one."""
    by_label: dict[str, tuple[str, Settings]] = {name: (name, Settings()) for name in layers.on_axis}
    for variant, settings in layers.variants:
        content = (methods.get(variant.method).name, settings)
        if variant.label in methods.names() and variant.label != content[0]:
            raise UsageError(f"variant: label {variant.label!r}: is the name of another method than {content[0]!r}")
        if by_label.setdefault(variant.label or content[0], content) != content:
            other = "method of the sweep" if not variant.label or variant.label in layers.sweep.methods else "variant"
            label = variant.label or content[0]
            raise UsageError(f"variant: label {label!r}: another {other} is called so; give each a label of its own")


def _check_size(sweep: Sweep, variants: int) -> None:
    """Refuse a plan of more cells than it may hold, before any of them is made."""
    changes = 1 + len(sweep.drop) + len(sweep.add)
    changes += number_of_points(sweep.axes, sweep.steps) if sweep.axes else 0
    factors = {
        "backbones": len(sweep.backbones),
        "methods": variants,
        "suites": len(_suites(sweep)),
        "cells of a base": changes,
        "seeds": max(map(len, [sweep.seeds, *sweep.seeds_of.values()])),
    }
    number = math.prod(factors.values())
    if number > sweep.max_cells:
        product = " x ".join(f"{count:,} {name}" for name, count in factors.items() if count > 1)
        raise UsageError(
            f"too many cells: {number:,} ({product}), and a plan has at most {sweep.max_cells:,}; leave values of "
            "axes, seeds or methods out, or lift the bound with --max-cells"
        )


def _methods(sweep: Sweep) -> list[str]:
    return methods.names() if sweep.methods == ("all",) else [methods.get(name).name for name in sweep.methods]


def _suites(sweep: Sweep) -> list[Suite]:
    """Return the suites of a sweep: only those that have one of the wanted tasks, if tasks are wanted.

    A sweep that names no suite means the suites of its tasks, or else the built-in ones: which plug-ins are installed
    must not change what it stands for.
    """
    wanted = [suites.get(tasks.get(name).suite).name for name in sweep.tasks]
    names = sweep.suites or [name for name in suites.names() if name in (wanted or suites.built_in())]
    return [suites.get(name) for name in names if not wanted or name in wanted]


class _Layers:
    """The settings of a sweep, checked and classified once, the later the stronger."""

    def __init__(self, sweep: Sweep, variants: Sequence[Variant]) -> None:
        self.sweep = sweep
        self.sources = ResolveSources()
        self.merged = cache(self._merged)
        if sweep.recipe:
            recipe_table(sweep.recipe)
        for name in sweep.suites:
            suites.get(name)
        for key in set(PLACES) & set(sweep.axes):
            for value in sweep.axes[key]:
                _check_place(key, value)
        self.seeds = {methods.get(name).name: seeds for name, seeds in sweep.seeds_of.items()}
        on_axis = [value for value in sweep.axes.get("method", ()) if not is_expression(value)]
        self.on_axis = [methods.get(name).name for name in on_axis]
        self.method_names = [*(methods.get(variant.method).name for variant in variants), *self.on_axis]
        self._set = _checked(sweep.set, self.method_names)
        self._given = _checked(sweep.given, self.method_names)
        self.variants = [(variant, _checked(variant.set, [variant.method])) for variant in variants]
        self._per = {key: _checked(settings, self._methods_of(key)) for key, settings in sweep.per.items()}

    def _methods_of(self, key: str) -> list[str]:
        """Return the methods that a table of ``[per]`` is for."""
        if key in methods.names():
            return [key]
        recipes = [*recipe_names(), *filter(None, [self.sweep.recipe])]
        if key not in [*suites.names(), *recipes]:
            raise unknown("name in [per]", key, [*suites.names(), *recipe_names(), *self.method_names])
        return self.method_names

    def _merged(self, suite: str, recipe: str, method: str) -> Settings:
        """Return the settings of a method, before those of a variant."""
        settings = self._set
        for key in (suite, recipe, method):
            settings |= self._per.get(key, Settings())
        return settings | self._given


def _check_place(key: str, value: Any) -> None:
    """Check a value of one of PLACES.

    Raises:
        UsageError: it is of another type than its place, or no name where that can be told without a base.
    """
    if key == "tasks":
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
            raise UsageError(f'axis tasks: {shortened(repr(value))}: expected lists of tasks, such as [["vqa"], []]')
        for name in value:
            tasks.get(name)
    elif not isinstance(value, str) or not value:
        raise UsageError(f'axis {key}: {shortened(repr(value))}: expected names, such as ["a", "b"]')
    elif key == "data" and not is_expression(value):
        try:
            check_file_name(value)
        except ValueError as fault:
            raise UsageError(f"axis data: {fault}") from None


def _checked(settings: Mapping[str, Any], method_names: Sequence[str]) -> Settings:
    """Classify settings, and check the values of the options in every method that has them."""
    classified = Settings.classify(settings, method_names)
    for key, value in classified.options.items():
        for entry in (methods.get(name).entry for name in method_names):
            if key in entry.types:
                entry.check(key, value)
    return classified


def _changes(sweep: Sweep, method_names: Sequence[str]) -> Iterator[Change]:
    """Yield the changes that a sweep makes to every base, checked and classified."""
    named = deltas(sweep) if sweep.drop or sweep.add else {}
    for sign, wanted, kind in (("-", sweep.drop, "drop"), ("+", sweep.add, "add")):
        for item in wanted:
            parts = item.split("+")
            values: dict[str, Any] = {}
            for name in parts:
                if name not in named or not getattr(named[name], kind):
                    raise unknown(f"delta to {kind}", name, [n for n, d in named.items() if getattr(d, kind)])
                values |= getattr(named[name], kind)
            yield _change(values, method_names, "".join(sign + name for name in parts))
    if sweep.axes:
        for values in grid(sweep.axes, sweep.steps):
            yield _change(values, method_names)


def _change(values: Mapping[str, Any], method_names: Sequence[str], word: str = "") -> Change:
    """Check the names of a change, and the literal values: one that no method takes is an error."""
    for key in set(LISTS) & set(values):
        raise UsageError(f"axis {key!r}: a difference is made within one {key}; write {LISTS[key]} = [...] instead")
    kinds = {key: classify_key(key, method_names) for key in values if key not in PLACES}
    entries = [methods.get(name).entry for name in method_names]
    names = {*Recipe.options(), *(key for entry in entries for key in entry.types)}
    for key, value in values.items():
        if is_expression(value):
            try:
                unknown_names = sorted(names_in(value) - names - {"method", "backbone", "suite"} - set(values))
            except UsageError as error:
                raise UsageError(f"axis {key}: {error}") from None
            for name in unknown_names:
                raise unknown(f"name in {key} = {value!r}", name, sorted(names))
        elif key in kinds and kinds[key][0] == "options":
            option = kinds[key][1]
            offering = [entry for entry in entries if option in entry.types]
            faults = [fault for entry in offering if (fault := _fault(entry, option, value))]
            if faults and len(faults) == len(offering):
                raise faults[0]
    return Change(values, word, kinds)


def _fault(entry: Any, key: str, value: Any) -> MethodError | None:
    try:
        entry.check(key, value)
    except MethodError as fault:
        return fault
    return None


def _named(cell: Cell) -> NamedCell:
    facts = {"method": cell.method, "backbone": cell.backbone, "suite": cell.suite, "seed": cell.seed, **cell.point}
    pairs = {f"{key}={written(value)}" for key, value in facts.items()}
    word = cell.label.removeprefix(f"{cell.base},")
    return NamedCell(cell.label, frozenset(pairs | {word}), is_base=cell.label == cell.base)


class _Base:
    """A method or variant on one backbone and suite, and the cells that change it."""

    def __init__(self, layers: _Layers, backbone: str, suite: Suite, variant: Variant, settings: Settings) -> None:
        self.layers, self.sweep = layers, layers.sweep
        self.backbone, self.suite, self.variant, self.settings = backbone, suite, variant, settings
        self.method = methods.get(variant.method).name
        self.tasks = suite.select(name for name in self.sweep.tasks if tasks.get(name).suite == suite.name)
        probe, self.reason = self.run({}, Settings(), 0, variant.label or None)
        self.label = variant.label or (probe.title if probe else self.method)
        self.values = _values(probe) if probe else {}

    def cells(self, changes: Sequence[Change]) -> Iterator[Cell]:
        """Yield the cells of every change, one per seed; the first change is that which changes nothing."""
        for change in changes:
            point, reason = self.solved(change)
            differing = self.differing(point)
            label, title = self.label, self.variant.label or None
            if change is BASE:
                point = {key: self.values[key] for key in self.sweep.axes if key in self.values}
            else:
                if change.word and not differing:
                    reason = f"{self.label} is so already"
                label = title = ",".join(
                    [differing.get("method", self.label), *([change.word] if change.word else words(differing))]
                )
            settings = change.settings(differing)
            for seed in self.layers.seeds.get(self.method, self.sweep.seeds):
                run, fault = (None, reason) if reason else self.run(differing, settings, seed, title)
                yield Cell(
                    method=run.method if run else differing.get("method", self.method),
                    label=label,
                    backbone=self.backbone,
                    suite=self.suite.name,
                    seed=seed,
                    tasks=run.tasks if run else self.tasks,
                    run=run,
                    reason=fault,
                    base=self.label if self.sweep.is_ablation else "",
                    point={} if change.word else point,
                    plot=self.sweep.plot,
                )

    def solved(self, change: Change) -> tuple[dict[str, Any], str]:
        """Return the values of a change with expressions computed, or as they are and why they cannot be."""
        point = dict(change.values)
        if point.get("tasks") == []:  # none chosen: those of the suite
            point["tasks"] = list(self.suite.official_tasks)
        try:
            point = solved(point, self.values)
            for key in set(PLACES) & set(point):
                _check_place(key, point[key])
            return point, ""
        except (LookupError, ArithmeticError, TypeError, UsageError) as fault:
            return point, self.reason or f"no value: {fault}"

    def differing(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that are not the base's own; all of them where the method is another."""
        is_other = point.get("method", self.method) != self.method
        return {
            key: value
            for key, value in point.items()
            if key not in self.values or value != self.values[key] or (is_other and key not in PLACES)
        }

    def run(
        self, places: Mapping[str, Any], settings: Settings, seed: int, label: str | None
    ) -> tuple[Run | None, str]:
        """Return the run with a change, or the reason why there is none."""
        recipe = places.get("recipe", self.sweep.recipe)
        try:
            method = methods.get(places.get("method", self.method)).name
            base = self.layers.merged(self.suite.name, recipe or recipe_for(self.backbone), method) | self.settings
            run = resolve(
                self.backbone,
                method,
                self.suite.name,
                seed=seed,
                data=places.get("data", self.sweep.data),
                recipe=recipe,
                task_names=places.get("tasks", self.tasks),
                settings=base | settings,
                label=label,
                sources=self.layers.sources,
            )
        except MethodError as reason:
            return None, str(reason)
        return run, ""


def _values(run: Run) -> dict[str, Any]:
    """Return every value of a base that axes and expressions may name; options come before recipe fields."""
    recipe = run.recipe.model_dump(by_alias=True)
    options = methods.get(run.method, **run.overrides).options(backbones.shape(run.backbone))
    place: dict[str, Any] = {"method": run.method, "backbone": run.backbone, "data": run.data, "suite": run.suite}
    place |= {"tasks": list(run.tasks), "recipe": recipe["name"]}
    full = {f"recipe.{k}": v for k, v in recipe.items()} | {f"method.{k}": v for k, v in options.items()}
    return recipe | options | full | place
