"""What a run is: plain frozen data with a content id.

The same Run has the same id on every machine, and the id is the name of its directory. Fields that cannot change the
result (batch size of the evaluation, checkpoint interval, device, label) are not in the id; fields at their default are
left out of it, so options added later keep old ids.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import methods
from bench import backbones, tasks
from bench.errors import UsageError, did_you_mean, unknown
from bench.tasks import Task
from methods.core.errors import MethodError

T = TypeVar("T", bound=BaseModel)
RECIPES = Path(__file__).parent / "recipes"
MINI = "mini"
NOT_IN_ID = {"name", "eval_batch_size", "checkpoint_every"}  # fields of a recipe that cannot change a result


class FrozenModel(BaseModel):
    """A frozen record of validated fields; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(FrozenModel):
    """How a model is trained and evaluated. Defaults are those of the official image-text scripts on BART.

    ``projector_lr`` is the learning rate of the visual projector where it differs from ``lr``: the projector starts
    from nothing, the backbone does not. ``epochs`` counts passes over all tasks' training data; ``steps``, if given, is
    the number of updates instead. ``validate`` evaluates on the validation splits after every epoch; ``select`` "best"
    then reports the epoch with the best mean (official video runs), "last" the last weights. ``visual`` "zero" blinds
    the model: all features are 0. ``evaluate`` "tuning" is for runs that choose settings: they are scored and validated
    on what no table reports (:mod:`bench.data.held_out`), and are in no table of results.
    """

    name: str = "paper"
    epochs: Annotated[int, Field(ge=1)] = 20
    steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 500
    eval_batch_size: Annotated[int, Field(ge=1)] = 200
    lr: Annotated[float, Field(gt=0)]
    projector_lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip: Annotated[float, Field(ge=0)] = 5.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    optimizer: Literal["adamw", "adamw-official"] = "adamw"
    beams: Annotated[int, Field(ge=1)] = 5
    validate_: Annotated[Literal["never", "epoch"], Field(alias="validate")] = "never"
    select: Literal["last", "best"] = "last"
    precision: Literal["fp32", "bf16"] = "fp32"
    task_prefix: bool = True
    n_boxes: Annotated[int, Field(ge=1)] = 36
    n_frames: Annotated[int, Field(ge=1)] = 64
    visual: Literal["features", "zero"] = "features"
    evaluate: Literal["report", "tuning"] = "report"
    limit: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every: Annotated[int, Field(ge=0)] = 1000

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=True)

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "Recipe":
        if self.select == "best" and self.validate_ == "never":
            raise ValueError('select = "best" needs validate = "epoch"')
        return self

    @classmethod
    def options(cls) -> list[str]:
        """Return the names of the fields as a user writes them."""
        return [field.alias or name for name, field in cls.model_fields.items()]


class Run(FrozenModel):
    """One training run: a backbone, a method with overrides, a suite trained jointly, a recipe, a seed, a data set.

    ``tasks`` are those of the suite that are trained and evaluated, empty for all; ``data`` is the logical name of a
    data root; ``label`` is what tables call the method, if not its name.
    """

    backbone: str
    method: str
    overrides: dict[str, Any] = {}
    suite: str
    tasks: tuple[str, ...] = ()
    recipe: Recipe
    seed: Annotated[int, Field(ge=0)] = 1
    data: str = MINI
    label: str | None = None

    def __hash__(self) -> int:
        """Hash by content: the dictionaries of a run are not hashable themselves."""
        return hash(self.id)

    @property
    def id(self) -> str:
        """A readable name and 8 hexadecimal digits of the SHA-256 of everything that can change the result."""
        content = self.content()
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        changed = [f"{key}={value}" for key, value in sorted(self.overrides.items())]
        blind = ["blind"] * (self.recipe.visual == "zero") + ["tuning"] * (self.recipe.evaluate == "tuning")
        words = [self.method, *changed, *blind, self.backbone.strip("/").split("/")[-1], self.suite, *self.tasks]
        readable = re.sub(r"[^A-Za-z0-9+=._-]+", "_", "-".join(words))[:120]
        return f"{readable}-s{self.seed}-{digest[:8]}"

    def content(self) -> dict[str, Any]:
        """Return the fields that make the id: those that differ from their defaults and can change the result."""
        chosen = methods.get(self.method, **self.overrides)
        idle = NOT_IN_ID | ({"epochs"} if self.recipe.steps else set())
        exclude: Any = {"label": True, "recipe": idle}
        fields = self.model_dump(mode="json", by_alias=True, exclude=exclude, exclude_defaults=True)
        fields |= {"method": chosen.name, "overrides": json.loads(json.dumps(chosen.overrides, default=str))}
        if chosen.version != 1:
            fields["method_version"] = chosen.version
        if self.data == MINI:
            from bench.mini.world import VERSION

            fields["mini"] = VERSION
        return {key: value for key, value in fields.items() if value not in ({}, [], None)}

    @property
    def task_list(self) -> list[Task]:
        """The tasks of this run, in the official order."""
        return [task for task in tasks.suite(self.suite) if not self.tasks or task.name in self.tasks]

    @property
    def title(self) -> str:
        """What tables call the method: the label, or its name with the overrides."""
        changed = ", ".join(f"{key}={value}" for key, value in sorted(self.overrides.items()))
        return self.label or (f"{self.method} [{changed}]" if changed else self.method)


class Execution(FrozenModel):
    """Where a run is executed; none of it can change the result, so none of it is in a Run.

    ``data`` maps logical names of data roots to folders. ``threads`` is torch's number of CPU threads, 0 for its own
    choice.
    """

    device: str = "auto"
    threads: int = 0
    data: dict[str, Path] = {}


def is_mini(backbone: str) -> bool:
    """Return whether a backbone is a miniature one: shipped, or a folder that ``mini pretrain`` wrote."""
    return backbone.startswith("mini-") or (Path(backbone) / "training_log.json").is_file()


def recipe_for(backbone: str) -> str:
    """Return the recipe that goes with a backbone where none is named."""
    return MINI if is_mini(backbone) else "paper"


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_table(name: str) -> dict[str, Any]:
    """Read a recipe: a packaged one by name, or a TOML file by path."""
    path = RECIPES / f"{name}.toml" if not name.endswith(".toml") else Path(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise unknown("recipe", name, recipe_names()) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from None


def resolve(
    backbone: str,
    method: str,
    suite: str,
    *,
    seed: int = 1,
    data: str | None = None,
    recipe: str | None = None,
    tasks_: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    label: str | None = None,
) -> Run:
    """Build a complete Run: every recipe value is filled in, from the recipe's tables and then from ``settings``.

    A recipe file holds fields of :class:`Recipe` at its top, and tables that refine them, the later the stronger: by
    family (``[bart]``), suite (``[video-text]``), both (``["bart video-text"]``) and method (``[method.full]``). The
    learning rate, weight decay and prompt switch that no table gives are the method's own
    (:meth:`methods.core.registry.ResolvedMethod.optim`). Miniature backbones go with the recipe ``mini``. ``epochs`` in
    ``settings`` takes the place of a recipe's ``steps``.

    Raises:
        UsageError: an unknown name, key or value.
        MethodError: an option that the method does not have, or that does not fit the backbone.
    """
    shape = backbones.shape(backbone)
    tasks.suite(suite)
    recipe_settings, options = split_settings(settings or {}, [method])
    chosen = methods.get(method, **options)
    chosen.spec(shape)
    recipe = recipe or recipe_for(backbone)
    table = recipe_table(recipe)
    optim = chosen.optim(shape.family, suite)
    fields: dict[str, Any] = {"lr": optim.lr, "weight_decay": optim.weight_decay, "task_prefix": optim.task_prefix}
    fields |= {key: value for key, value in table.items() if not isinstance(value, dict)}
    for key in (shape.family, suite, f"{shape.family} {suite}"):
        fields |= table.get(key, {})
    fields |= table.get("method", {}).get(chosen.name, {})
    if "epochs" in recipe_settings:
        fields.pop("steps", None)
    run = {
        "backbone": backbone,
        "method": chosen.name,
        "overrides": json.loads(json.dumps(chosen.overrides, default=str)),
        "suite": suite,
        "tasks": _known_tasks(suite, tasks_),
        "recipe": {"name": recipe, **fields, **recipe_settings},
        "seed": seed,
        "data": data or (MINI if recipe == MINI else "official"),
        "label": label,
    }
    return validated(Run, run, f"recipe {recipe!r} with the settings given")


def _known_tasks(suite: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    known = tasks.names(suite)
    for name in wanted:
        if name not in known:
            raise unknown(f"task of suite {suite}", name, known)
    chosen = tuple(name for name in known if name in wanted)
    return () if chosen == tuple(known) else chosen


def split_settings(settings: Mapping[str, Any], names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part ``key: value`` settings into recipe fields and options of methods.

    ``recipe.lr`` and ``method.rank`` say where a key belongs; a bare key goes where it is known.

    Raises:
        UsageError: no recipe field and no option of these methods is called so (near matches are named), or both are.
        MethodError: ``method.KEY`` is an option of none of these methods.
    """
    fields = Recipe.options()
    options = sorted({key for name in names for key in methods.get(name).entry.types})
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for key, value in settings.items():
        room, _, bare = key.rpartition(".")
        homes = [room == "recipe" or (not room and bare in fields), room == "method" or (not room and bare in options)]
        if room not in ("", "recipe", "method") or not any(homes) or (room == "recipe" and bare not in fields):
            raise UsageError(f"unknown setting {key!r}{did_you_mean(bare, [*fields, *options])}")
        if room == "method" and bare not in options:
            raise MethodError(f"{', '.join(names)}: no option {bare!r}{did_you_mean(bare, options)}")
        if all(homes):
            raise UsageError(f"setting {key!r} is ambiguous; write recipe.{key} or method.{key}")
        found[homes[1]][bare] = value
    return found


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse ``key=value`` of the command line; the value is read as TOML, else as a string.

    >>> parse_setting("lr=1e-3"), parse_setting("gate=small")
    (('lr', 0.001), ('gate', 'small'))
    """
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--set {text!r}: expected KEY=VALUE, for example --set lr=1e-3")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def validated(model: type[T], content: Any, where: str) -> T:
    """Validate plain data; one error line names where it came from, the field and what is wrong with it."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            place = fault["loc"]
            field = ".".join(str(part) for part in place)
            said = 'Input should be a list, for example ["a", "b"]' if fault["type"] == "tuple_type" else fault["msg"]
            unexpected = fault["type"] == "extra_forbidden"
            faults.append(f"{field}: {said}{did_you_mean(str(place[-1]), _fields(model, place)) if unexpected else ''}")
        raise UsageError(f"{where}: {'; '.join(faults)}") from None


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the fields, as a user writes them, of the (nested) model in which ``place`` is."""
    for part in place[:-1]:
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
            model = next((kind for kind in kinds if issubclass(kind, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
