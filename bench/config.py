"""What a run is: plain frozen data with a content id.

The same Run has the same id on every machine, and the id is the name of its directory. Fields that cannot change the
result (batch size of the evaluation, checkpoint interval, device, label) are not in the id; fields at their default are
left out of it, so options added later keep old ids.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

import methods
from bench import backbones, suites, tasks
from bench.errors import UsageError, did_you_mean
from bench.recipe import NOT_IN_ID, FrozenModel, Recipe
from bench.recipe_files import recipe_fields, recipe_tables
from bench.tasks import Task
from bench.toml_files import parse_value, shortened
from bench.validation import check_fields, validated
from methods.core.errors import MethodError
from methods.core.registry import ResolvedMethod
from methods.core.shape import Shape

MINI = "mini"
OFFICIAL = "official"  # the logical name of the published data
OPTIMIZER_FIELDS = ("lr", "weight_decay", "task_prefix")  # those for which methods have values of their own
#: the version of how runs are trained and evaluated; raised when the same configuration comes to give another result
PROTOCOL = 1
MAX_THREADS = 4096
NAMED = 4  # methods that a message names
SEEDS = 2**63  # how many seeds torch's generators take


class Run(FrozenModel):
    """One training run: a backbone, a method with overrides, tasks of a suite trained jointly, a recipe, a seed, data.

    ``tasks`` are the names of the tasks that are trained and evaluated, in the order of the suite. Where none are
    given, as in a file of an earlier version, they are the official tasks of the suite. ``data`` is the logical name of
    a data root; ``label`` is what tables call the method, if not its name.
    """

    backbone: str
    method: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    suite: str
    tasks: tuple[str, ...] = ()
    recipe: Recipe
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 1
    data: str = MINI
    label: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_tasks(cls, content: Any) -> Any:
        # A suite that is not registered is no error here: a results folder may hold runs of plug-ins of other people.
        if isinstance(content, Mapping) and not content.get("tasks") and content.get("suite") in suites.names():
            return {**content, "tasks": suites.get(content["suite"]).official_tasks}
        return content

    def __hash__(self) -> int:
        """Hash by content: the dictionaries of a run are not hashable themselves."""
        return hash(self.id)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the run; the copy computes an id of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("id", None)
        return copied

    @cached_property
    def id(self) -> str:
        """A readable name and 8 hexadecimal digits of the SHA-256 of everything that can change the result."""
        content = self.content()
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        changed = [f"{key}={value}" for key, value in sorted(self.overrides.items())]
        blind = ["blind"] * (self.recipe.visual == "zero") + ["tuning"] * (self.recipe.evaluate == "tuning")
        chosen_tasks = content.get("tasks", [])
        words = [self.method, *changed, *blind, self.backbone.strip("/").split("/")[-1], self.suite, *chosen_tasks]
        readable = re.sub(r"[^A-Za-z0-9+=._-]+", "_", "-".join(words))[:120]
        return f"{readable}-s{self.seed}-{digest[:8]}"

    def content(self) -> dict[str, Any]:
        """Return the fields that make the id: those that differ from their defaults and can change the result.

        The tasks are left out where they are the official ones of the suite. Versions of the method, the tasks, the
        suite, the backbone family and the training protocol are there where they are not 1, the version of the
        miniature data always.
        """
        method = methods.get(self.method, **self.overrides)
        suite = suites.get(self.suite)
        idle = NOT_IN_ID | ({"epochs"} if self.recipe.steps else set())
        exclude: Any = {"label": True, "recipe": idle, "tasks": self.tasks == suite.official_tasks}
        exclude = {key: value for key, value in exclude.items() if value}
        fields = self.model_dump(mode="json", by_alias=True, exclude=exclude, exclude_defaults=True)
        fields |= {"method": method.name, "overrides": _as_json(method.overrides)}
        versions = {
            "method_version": method.version,
            "suite_version": suite.version,
            "backbone_version": backbones.version(self.backbone),
            "protocol_version": PROTOCOL,
        }
        fields |= {key: version for key, version in versions.items() if version != 1}
        fields["task_versions"] = {task.name: task.version for task in self.task_list if task.version != 1}
        if self.data == MINI and suite.miniature:
            fields["mini"] = suite.miniature.version
        return {key: value for key, value in fields.items() if value not in ({}, [], None)}

    @property
    def task_list(self) -> list[Task]:
        """The tasks of this run, in the order of the suite; UsageError where one of them or the suite is not
        registered."""
        suites.get(self.suite)
        return [tasks.get(name) for name in self.tasks]

    @property
    def title(self) -> str:
        """What tables call the method: the label, or its name with the overrides."""
        changed = ", ".join(f"{key}={value}" for key, value in sorted(self.overrides.items()))
        return self.label or (f"{self.method} [{changed}]" if changed else self.method)


@dataclass(frozen=True)
class Settings:
    """Settings, classified: fields of the recipe and options of the method, each under its own name."""

    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def classify(cls, settings: Mapping[str, Any], method_names: Sequence[str]) -> "Settings":
        """Classify ``KEY: VALUE`` settings for runs of some methods; :func:`classify_key` says where a key belongs."""
        recipe: dict[str, Any] = {}
        options: dict[str, Any] = {}
        for key, value in settings.items():
            kind, name = classify_key(key, method_names)
            (recipe if kind == "recipe" else options)[name] = value
        return cls(recipe, options)

    def __or__(self, stronger: "Settings") -> "Settings":
        """Return these settings overridden by others."""
        return Settings({**self.recipe, **stronger.recipe}, {**self.options, **stronger.options})


def classify_key(key: str, method_names: Sequence[str]) -> tuple[Literal["recipe", "options"], str]:
    """Say whether the key of a setting is a field of the recipe or an option of the methods, and its plain name.

    ``recipe.lr`` and ``method.rank`` say where they belong; a plain key goes where such a name exists.

    Raises:
        UsageError: no recipe field and no option of these methods is called so (near matches are named), or both are.
        MethodError: ``method.KEY`` is an option of none of these methods.
    """
    fields = Recipe.options()
    options = sorted({option for name in method_names for option in methods.get(name).entry.types})
    prefix, _, name = key.rpartition(".")
    is_field = prefix in ("", "recipe") and name in fields
    is_option = prefix in ("", "method") and name in options
    if prefix == "method" and not is_option:
        raise MethodError(f"{', '.join(method_names)}: no option {name!r}{did_you_mean(name, options)}")
    if not is_field and not is_option:
        owners = [other for other in methods.names() if name in methods.get(other).entry.types]
        if owners and prefix == "":
            named = ", ".join([*owners[:NAMED], *(["..."] if len(owners) > NAMED else [])])
            raise UsageError(f"{key!r} is no setting of {', '.join(method_names)}; methods with it: {named}")
        raise UsageError(f"unknown setting {key!r}{did_you_mean(name, [*fields, *options])}")
    if is_field and is_option:
        raise UsageError(f"setting {key!r} is ambiguous; write recipe.{key} or method.{key}")
    return ("recipe" if is_field else "options"), name


class Execution(FrozenModel):
    """Where a run is executed; none of it can change the result but for rounding, so none of it is in a Run.

    ``data`` maps logical names of data roots to folders. ``threads`` is torch's number of CPU threads; with 0 it is one
    for a miniature run, and for others ``share``, a worker's part of the machine, or what torch chooses if that is 0.
    ``workers`` is the number of processes that share the device, each with a run of its own; records say it with times.
    ``micro_batch`` is the largest number of examples that go through the model at once in training, None for the whole
    batch. ``merge`` folds the method into the backbone's weights before a run is evaluated, where that can be done; the
    record says whether it was. ``compile`` has torch compile the backbone's layers. ``predict`` is a further split that
    is predicted at the end, without scores (:mod:`bench.predict`).
    """

    device: str = "auto"
    threads: int = 0
    share: int = 0
    workers: int = 1
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    merge: bool = False
    compile: bool = False
    data: dict[str, Path] = Field(default_factory=dict)
    predict: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Execution":
        # Not ValueError, of which pydantic makes an error of its own: these values come from the command line.
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise UsageError(f"--device {self.device}: no such device; use auto, cpu, cuda or cuda:N")
        if not 0 <= self.threads <= MAX_THREADS:
            raise UsageError(f"--threads {self.threads}: expected 0 (torch's own choice) to {MAX_THREADS}")
        return self


def is_mini(backbone: str) -> bool:
    """Return whether a backbone is a miniature one: shipped, or a folder that ``mini pretrain`` wrote."""
    return backbone.startswith("mini-") or os.path.isfile(os.path.join(backbone, "training_log.json"))


def recipe_for(backbone: str) -> str:
    """Return the recipe that goes with a backbone where none is named."""
    return MINI if is_mini(backbone) else "paper"


def _as_json(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides as a file has them: tuples are lists."""
    return json.loads(json.dumps(overrides, default=str)) if overrides else {}


class ResolveSources:
    """What runs are resolved from, each backbone and recipe read once: for plans, in which no file changes."""

    def __init__(self) -> None:
        self.canonical_name = cache(backbones.canonical_name)
        self.shape = cache(backbones.shape)
        self.tasks = cache(lambda suite, names: suites.get(suite).select(names))
        self.check_recipe = cache(self._check_recipe)
        self.fields = cache(lambda recipe, suite, *keys: recipe_fields(recipe, suites.get(suite), *keys))
        self._fitting: set[tuple[str, str, Shape]] = set()

    @staticmethod
    def _check_recipe(recipe: str) -> None:
        for table, content in recipe_tables(recipe).items():  # also those that others hide, or that are for other runs
            check_fields(Recipe, content, f"recipe {shortened(recipe)!r}" + (f", table {table!r}" if table else ""))

    def check(self, method: ResolvedMethod, shape: Shape) -> None:
        """Raise MethodError where the options of a method do not fit a backbone or each other."""
        key = (method.name, repr(method.items), shape)
        if key not in self._fitting:
            method.spec(shape)
            self._fitting.add(key)


def resolve(
    backbone: str,
    method: str,
    suite: str,
    *,
    seed: int = 1,
    data: str | None = None,
    recipe: str | None = None,
    task_names: Sequence[str] = (),
    settings: Settings | Mapping[str, Any] | None = None,
    label: str | None = None,
    sources: ResolveSources | None = None,
) -> Run:
    """Build a complete Run: every recipe value is filled in, from the recipe, the suite and then the settings.

    A recipe file holds fields of :class:`Recipe` at its top, and tables that refine them. The order, the later the
    stronger: the top of the file, its table of the backbone family (``[bart]``), the fields that the suite has for this
    recipe, the file's tables of the suite (``[video-text]``), of both (``["bart video-text"]``) and of the method
    (``[method.full]``). All of them are stronger than the fields of its ``base``, where it names such a recipe. The
    learning rate, weight decay and prompt switch that neither these nor the settings give are the method's own
    (:meth:`methods.core.registry.ResolvedMethod.optim`). Miniature backbones go with the recipe ``mini``. ``epochs`` in
    the settings takes the place of a recipe's ``steps``.

    Args:
        backbone: name or path of a backbone; the run has the absolute path, so that no spelling makes another id.
        method: name of a method.
        suite: name of a suite.
        seed: seed of the run.
        data: logical name of the data root; by default that which goes with the recipe.
        recipe: name of a packaged recipe or path of a TOML file; by default that which goes with the backbone.
        task_names: the tasks of the suite to train, the official ones if empty.
        settings: classified settings, or ``KEY: VALUE`` pairs as a user writes them.
        label: what tables call the method.
        sources: what the runs of a plan share; read anew by default.

    Raises:
        UsageError: an unknown name, key or value.
        MethodError: an option that the method does not have, or that does not fit the backbone.
    """
    if not 0 <= seed < SEEDS:
        raise UsageError(f"seed {shortened(seed)} (--seed, --seeds): expected a whole number from 0 to 2^63 - 1")
    sources = sources or ResolveSources()
    backbone = sources.canonical_name(backbone)
    shape = sources.shape(backbone)
    chosen_suite = suites.get(suite)
    if not isinstance(settings, Settings):
        settings = Settings.classify(settings or {}, [method])
    chosen = methods.get(method, **settings.options)
    recipe = recipe or recipe_for(backbone)
    data = data or (MINI if recipe == MINI else OFFICIAL)
    if data in (MINI, OFFICIAL):  # other roots may have features of any width
        shape = replace(shape, columns=chosen_suite.columns(miniature=data == MINI))
    sources.check(chosen, shape)
    sources.check_recipe(recipe)
    fields = dict(sources.fields(recipe, suite, shape.family, chosen.name))
    if "epochs" in settings.recipe:
        fields.pop("steps", None)
    fields |= settings.recipe
    if missing := [key for key in OPTIMIZER_FIELDS if key not in fields]:
        optim = chosen.optim(shape.family, suite)
        fields |= {key: getattr(optim, key) for key in missing}
    run = {
        "backbone": backbone,
        "method": chosen.name,
        "overrides": _as_json(chosen.overrides),
        "suite": suite,
        "tasks": sources.tasks(suite, tuple(task_names)),
        "recipe": {"name": recipe, **fields},
        "seed": seed,
        "data": data,
        "label": label,
    }
    return validated(Run, run, f"recipe {recipe!r} with the settings given")


def parse_setting(text: str, flag: str = "--set") -> tuple[str, Any]:
    """Parse ``key=value`` of the command line; the value is read as TOML, else as a string.

    >>> parse_setting("lr=1e-3"), parse_setting("gate=small")
    (('lr', 0.001), ('gate', 'small'))

    Raises:
        UsageError: it is not KEY=VALUE, or the value has several lines, is nested too deep or has too many digits; the
            message names ``flag``.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip() or not key.isprintable():
        raise UsageError(f"{flag} {shortened(repr(text))}: expected KEY=VALUE, for example {flag} lr=1e-3")
    try:
        return key.strip(), parse_value(value)
    except UsageError as fault:
        raise UsageError(f"{flag} {shortened(key.strip())}: {fault}") from None
