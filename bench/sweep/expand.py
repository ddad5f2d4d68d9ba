"""From a sweep to its cells: which run each is, or why it cannot be had. Nothing is built and nothing is read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import methods
from bench import backbones, tasks
from bench.config import Recipe, Run, recipe_for, recipe_names, recipe_table, resolve, split_settings
from bench.errors import UsageError, unknown
from bench.sweep.axes import NamedCell, grid, is_expression, names_in, solved, stay, words, written
from bench.sweep.spec import Cell, Sweep, Variant, deltas
from methods.core.errors import MethodError

PLACES = ("method", "tasks", "data", "recipe")  # axes that are neither a recipe field nor an option
LISTS = {"seed": "seeds", "suite": "suites", "backbone": "backbones"}  # fields of a run that are no axis


@dataclass(frozen=True)
class Change:
    """What a cell changes of its base: values on the axes, or the settings of a delta, whose word names it."""

    settings: Mapping[str, Any]
    word: str = ""


def expand(sweep: Sweep) -> list[Cell]:
    """Return the cells of a sweep in their order, which is the order of its tables: a base before its changes.

    A combination that a method does not offer (an option it lacks, a size that does not fit the backbone) is a cell
    without a run, whose reason is the method's. A point of the axes that is its base is the base's cell.

    Raises:
        UsageError: an unknown name or setting, or a value of the wrong type; nothing has run yet.
        MethodError: an unknown method, an option that none of the methods has, or an option's value of the wrong type.
    """
    chosen = [Variant(label="", method=name) for name in _methods(sweep)] + list(sweep.variant)
    if not chosen:
        raise UsageError(f"sweep {sweep.name!r} names no method; add methods = [...] or --methods")
    everyone = _checked(sweep, chosen)
    changes = list(_changes(sweep))
    cells: dict[tuple[str, str], Cell] = {}
    for backbone in sweep.backbones:
        for suite in _suites(sweep):
            for variant in chosen:
                place = _Place(sweep, backbone, suite, variant, everyone)
                for cell in place.cells(changes):
                    key = (cell.run_id, cell.base)
                    before = cells.setdefault(key, cell)
                    if not before.point:
                        cells[key] = replace(before, point=cell.point)
    if not cells:
        raise UsageError(f"sweep {sweep.name!r} selects nothing: no backbone, suite or seed, or no suite has the tasks")
    left = stay([_named(cell) for cell in cells.values()], sweep.only, sweep.but)
    if not any(left):
        raise UsageError(f"sweep {sweep.name!r}: its filters leave no cell")
    return [cell for cell, stays in zip(cells.values(), left, strict=True) if stays]


def _methods(sweep: Sweep) -> list[str]:
    return methods.names() if sweep.methods == ("all",) else [methods.get(name).name for name in sweep.methods]


def _suites(sweep: Sweep) -> list[str]:
    """The suites that have one of the wanted tasks, if only some are wanted."""
    return [s for s in sweep.suites if not sweep.tasks or set(tasks.names(s)) & set(sweep.tasks)]


def _checked(sweep: Sweep, chosen: list[Variant]) -> list[str]:
    """Check every name and setting of a sweep, and return the names of its methods."""
    for suite in sweep.suites:
        tasks.suite(suite)
    for name in sweep.tasks:
        tasks.get(name)
    if sweep.recipe:
        recipe_table(sweep.recipe)
    named = [value for value in sweep.axes.get("method", ()) if not is_expression(value)]
    everyone = [methods.get(name).name for name in [*(v.method for v in chosen), *named]]
    _check_settings(sweep.set, everyone)
    _check_settings(sweep.given, everyone)
    for variant in chosen:
        _check_settings(variant.set, [variant.method])
    for key, settings in sweep.per.items():
        if key in methods.names():
            _check_settings(settings, [key])
        elif key in tasks.suites() or key in recipe_names() or key == sweep.recipe:
            _check_settings(settings, everyone)
        else:
            raise unknown("name in [per]", key, [*tasks.suites(), *recipe_names(), *everyone])
    for change in _changes(sweep):
        _check_change(change, everyone)
    return everyone


def _check_settings(settings: Mapping[str, Any], everyone: list[str]) -> None:
    for key, value in split_settings(settings, everyone)[1].items():
        for entry in (methods.get(name).entry for name in everyone):
            if key in entry.types:
                entry.check(key, value)


def _check_change(change: Change, everyone: list[str]) -> None:
    """Check the names of a change, and the literal values: one that no method takes is an error."""
    for key in set(LISTS) & set(change.settings):
        raise UsageError(f"axis {key!r}: a difference is made within one {key}; write {LISTS[key]} = [...] instead")
    options = split_settings(_settings(change.settings), everyone)[1]
    known = {*Recipe.options(), *(key for name in everyone for key in methods.get(name).entry.types)}
    for key, value in change.settings.items():
        if is_expression(value):
            for name in sorted(names_in(value) - known - {"method", "backbone", "suite"} - set(change.settings)):
                raise unknown(f"name in {key} = {value!r}", name, sorted(known))
    for key, value in options.items():
        having = [methods.get(name).entry for name in everyone if key in methods.get(name).entry.types]
        faults = [] if is_expression(value) else [fault for entry in having if (fault := _fault(entry, key, value))]
        if faults and len(faults) == len(having):
            raise faults[0]


def _fault(entry: Any, key: str, value: Any) -> MethodError | None:
    try:
        entry.check(key, value)
    except MethodError as fault:
        return fault
    return None


def _settings(change: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a change that is recipe fields and options."""
    return {key: value for key, value in change.items() if key not in PLACES}


def _changes(sweep: Sweep) -> Iterator[Change]:
    known = deltas(sweep) if sweep.drop or sweep.add else {}
    for sign, wanted, kind in (("-", sweep.drop, "drop"), ("+", sweep.add, "add")):
        for item in wanted:
            parts = item.split("+")
            settings: dict[str, Any] = {}
            for name in parts:
                if name not in known or not getattr(known[name], kind):
                    raise unknown(f"delta to {kind}", name, [n for n, d in known.items() if getattr(d, kind)])
                settings |= getattr(known[name], kind)
            yield Change(settings, "".join(sign + name for name in parts))
    if sweep.axes:
        yield from map(Change, grid(sweep.axes, sweep.steps))


def _named(cell: Cell) -> NamedCell:
    facts = {"method": cell.method, "backbone": cell.backbone, "suite": cell.suite, "seed": cell.seed, **cell.point}
    pairs = {f"{key}={written(value)}" for key, value in facts.items()}
    word = cell.label.removeprefix(f"{cell.base},")
    return NamedCell(cell.label, frozenset(pairs | {word}), is_base=cell.label == cell.base)


class _Place:
    """A base on one backbone and suite: its settings, and the cells that change them."""

    def __init__(self, sweep: Sweep, backbone: str, suite: str, variant: Variant, everyone: list[str]) -> None:
        self.sweep, self.backbone, self.suite, self.variant, self.everyone = sweep, backbone, suite, variant, everyone
        self.method = methods.get(variant.method).name
        self.tasks = tuple(name for name in tasks.names(suite) if name in sweep.tasks)
        self.known: dict[str, Any] = {}
        probe, self.reason = self.run({}, 0, variant.label or None)
        self.label = variant.label or (probe.title if probe else self.method)
        if probe:
            self.known = self.values(probe)

    def cells(self, changes: list[Change]) -> Iterator[Cell]:
        """Yield the base's cells, one per seed, then those of each change."""
        ablation = self.sweep.is_ablation
        at = {key: self.known[key] for key in self.sweep.axes if key in self.known}
        yield from self.seeds({}, self.variant.label or None, self.label, at)
        for change in changes if ablation else []:
            point, reason = dict(change.settings), ""
            try:
                point = solved(point, self.known)
            except (LookupError, ArithmeticError, TypeError) as fault:
                reason = self.reason or f"no value: {fault}"
            differing = self.differing(point)
            if change.word and not differing:
                reason = f"{self.label} is so already"
            head = differing.get("method", self.label)
            label = ",".join([head, *([change.word] if change.word else words(differing))])
            yield from self.seeds(differing, label, label, {} if change.word else point, reason)

    def differing(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that are not the base's own; all of them where the method is another."""
        other = point.get("method", self.method) != self.method
        return {
            key: value
            for key, value in point.items()
            if key not in self.known or value != self.known[key] or (other and key not in PLACES)
        }

    def seeds(
        self, change: Mapping[str, Any], title: str | None, label: str, point: Mapping[str, Any], reason: str = ""
    ) -> Iterator[Cell]:
        """Yield a cell per seed."""
        for seed in self.sweep.seeds:
            run, fault = (None, reason) if reason else self.run(change, seed, title)
            yield Cell(
                method=run.method if run else change.get("method", self.method),
                label=label,
                backbone=self.backbone,
                suite=self.suite,
                seed=seed,
                tasks=tuple(t.name for t in run.task_list) if run else self.tasks or tuple(tasks.names(self.suite)),
                run=run,
                reason=fault,
                base=self.label if self.sweep.is_ablation else "",
                point=point,
                plot=self.sweep.plot,
            )

    def run(self, change: Mapping[str, Any], seed: int, label: str | None) -> tuple[Run | None, str]:
        """Return the run with a change, or the reason why there is none."""
        recipe = change.get("recipe", self.sweep.recipe)
        try:
            method = methods.get(change.get("method", self.method))
            run = resolve(
                self.backbone,
                method.name,
                self.suite,
                seed=seed,
                data=change.get("data", self.sweep.data),
                recipe=recipe,
                tasks_=tuple(change.get("tasks", self.tasks)),
                settings=self.layered(method.entry, recipe or recipe_for(self.backbone), _settings(change)),
                label=label,
            )
        except MethodError as reason:
            return None, str(reason)
        return run, ""

    def layered(self, entry: Any, recipe: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a cell, the later layers over the earlier ones, each under its full name."""
        per = self.sweep.per
        found: dict[str, Any] = {}
        layers = [self.sweep.set, per.get(self.suite, {}), per.get(recipe, {}), per.get(entry.name, {})]
        for layer in (*layers, self.sweep.given, self.variant.set, change):
            found |= self.full(entry, layer)
        return found

    def full(self, entry: Any, layer: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings under their full names: ``recipe.KEY`` or ``method.KEY``."""
        recipe, options = split_settings(layer, [*self.everyone, entry.name])
        return {f"recipe.{k}": v for k, v in recipe.items()} | {f"method.{k}": v for k, v in options.items()}

    def values(self, run: Run) -> dict[str, Any]:
        """Return every value of a base that axes and expressions may name; options come before recipe fields."""
        recipe = run.recipe.model_dump(by_alias=True)
        options = methods.get(run.method, **run.overrides).options(backbones.shape(run.backbone))
        place: dict[str, Any] = {"method": run.method, "backbone": run.backbone, "data": run.data, "suite": run.suite}
        place |= {"tasks": list(run.tasks), "recipe": recipe["name"]}
        full = {f"recipe.{k}": v for k, v in recipe.items()} | {f"method.{k}": v for k, v in options.items()}
        return recipe | options | full | place
