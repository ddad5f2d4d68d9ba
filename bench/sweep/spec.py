"""The schema of a sweep file, and of the cells that a sweep is expanded to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from bench.config import SEEDS, FrozenModel, Run
from bench.errors import UsageError, unknown
from bench.toml_files import expand_home, read_toml, shortened
from bench.validation import validated

BENCH = Path(__file__).resolve().parents[1]
SWEEPS = BENCH / "sweeps"
ABLATIONS = BENCH / "ablations"

Plot = Literal["curve", "heatmap", "bars"]
MAX_CELLS = 20_000  # of a plan, where nobody lifts the bound: more trainings than anybody has compared
MAX_NAME = 100  # characters of a label, bytes of what files are called by


def check_file_name(name: str) -> str:
    """Return the name of a sweep or a data root, which files and folders are called by.

    Raises:
        ValueError: it has other characters than letters, digits, spaces and ``. _ + - ( )``, begins with none of the
            first two, has two dots in a row, or is too long.
    """
    characters = name.replace(" ", "").translate(str.maketrans("", "", "._+-()"))
    well_formed = characters.isalnum() and name[0].isalnum() and name == name.strip() and ".." not in name
    if not well_formed or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME:
        rule = f"letters, digits, spaces and . _ + - ( ), at most {MAX_NAME}, beginning with a letter or digit, no '..'"
        raise ValueError(f"{shortened(repr(name))} is no name here; it may have {rule}")
    return name


def check_label(label: str) -> str:
    """Return what tables call a method or variant.

    Raises:
        ValueError: it is empty or too long, has control characters or a comma, which separates the changes of a cell.
    """
    if not label.isprintable() or not label.strip() or label != label.strip() or "," in label or len(label) > MAX_NAME:
        rule = f"one line of at most {MAX_NAME} printable characters without commas"
        raise ValueError(f"{shortened(repr(label))} is no label; it is {rule}")
    return label


FileName = Annotated[str, AfterValidator(check_file_name)]
Label = Annotated[str, AfterValidator(check_label)]
Word = Annotated[str, Field(min_length=1)]
Seeds = tuple[Annotated[int, Field(ge=0, lt=SEEDS, strict=True)], ...]


class Variant(FrozenModel):
    """A method with further settings, which tables list under a label."""

    label: Label
    method: Word
    set: Mapping[str, Any] = Field(default_factory=dict)


class NamedDelta(FrozenModel):
    """A part of a method by its name: the settings that take it away from a base, and those that give it to one."""

    drop: Mapping[str, Any] = Field(default_factory=dict)
    add: Mapping[str, Any] = Field(default_factory=dict)


class Sweep(FrozenModel):
    """The fields of a sweep file. The runs are the product backbones x (methods, variants) x suites x seeds.
    ``seeds_of`` gives methods, by name, other seeds than ``seeds``.

    ``suites``, if empty, are those of the ``tasks``, and without tasks the built-in ones. ``tasks``, if empty, are the
    official ones of each suite. ``set`` holds settings for every run; ``per`` refines them by suite, recipe or method
    name, the later the stronger; ``given``, the settings of the command line, is stronger than both.

    With ``axes``, ``drop`` or ``add`` every method and variant is a base, and each base has further cells: the points
    of the axes' product, and one cell for each name in ``drop`` and ``add`` (``"a+b"`` drops both). An axis is a
    recipe field, a method option, or ``method``, ``tasks``, ``data``, ``recipe``; a value that begins with ``=`` is
    computed from the base's settings (``"=2*rank"``). ``zip`` lists axes that advance together; ``only``
    and ``except`` are filters (:func:`bench.sweep.axes.stay`); ``deltas`` adds to the built-in ones. ``plot`` is how
    the differences to the base are drawn, by default what the axes suggest. ``max_cells`` bounds the plan: one with
    more cells is an error. ``folder``, which flags of the command line give, is what the folder of the report is called
    where it is not the name (:func:`bench.sweep.report_names.report_name`).
    """

    name: FileName
    question: str = ""
    backbones: tuple[Word, ...] = ("mini-bart",)
    methods: tuple[Word, ...] = ()
    suites: tuple[Word, ...] = ()
    tasks: tuple[Word, ...] = ()
    seeds: Seeds = (1,)
    seeds_of: Mapping[Word, Seeds] = Field(default_factory=dict)
    recipe: Word | None = None
    data: FileName | None = None
    set: Mapping[str, Any] = Field(default_factory=dict)
    per: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    given: Mapping[str, Any] = Field(default_factory=dict)
    variant: tuple[Variant, ...] = ()
    axes: Mapping[Word, tuple[Any, ...]] = Field(default_factory=dict)
    steps: tuple[tuple[Word, ...], ...] = Field((), alias="zip")
    only: tuple[Word, ...] = ()
    but: tuple[Word, ...] = Field((), alias="except")
    drop: tuple[Word, ...] = ()
    add: tuple[Word, ...] = ()
    deltas: Mapping[Word, NamedDelta] = Field(default_factory=dict)
    plot: Plot | None = None
    max_cells: Annotated[int, Field(ge=1, strict=True)] = MAX_CELLS
    folder: FileName | None = None

    _origin: str = PrivateAttr("")

    @property
    def origin(self) -> str:
        """The file that a user named, for messages; "" where there is none."""
        return self._origin

    def content(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as JSON has them: equal for equal plans."""
        return {"name": self.name, **self.model_dump(mode="json", by_alias=True, exclude_defaults=True)}

    @property
    def is_ablation(self) -> bool:
        """Whether the sweep reports differences to a base."""
        return bool(self.axes or self.drop or self.add)


@dataclass(frozen=True)
class Cell:
    """One planned cell: a run, or the reason why there is none for this combination.

    ``base`` is the label of the cell that its difference refers to, "" where the sweep asks for none; ``point`` its
    values on the sweep's axes.
    """

    method: str
    label: str
    backbone: str
    suite: str
    seed: int
    tasks: tuple[str, ...]
    run: Run | None
    reason: str = ""
    base: str = ""
    point: Mapping[str, Any] = field(default_factory=dict)
    plot: Plot | None = None

    @property
    def run_id(self) -> str:
        """The run's id, or a name for a cell that cannot run."""
        return self.run.id if self.run else f"unsupported-{self.label}-{self.backbone}-{self.suite}-s{self.seed}"


def names(folder: Path = SWEEPS) -> list[str]:
    """Return the names of the built-in sweeps, or ablations."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load(wanted: str) -> Sweep:
    """Read a sweep: a built-in one or an ablation by name, or a TOML file by path.

    Raises:
        UsageError: unknown name, broken TOML, or a field that is wrong; near matches are named.
    """
    if is_file_name(wanted):
        path = expand_home(wanted)
        content = read_toml(path, "sweep file", (f"{name}.toml" for name in names()))
    else:
        if wanted not in [*names(), *names(ABLATIONS)]:
            raise unknown("sweep", shortened(wanted), [*names(), *names(ABLATIONS)])
        path = (SWEEPS if wanted in names() else ABLATIONS) / f"{wanted}.toml"
        content = read_toml(path, "sweep file")
    for key, remedy in (("given", "write [set] in a file"), ("folder", "give the sweep another name")):
        if key in content:
            raise UsageError(f"{shortened(path)}: {key}: is what the command line sets; {remedy}")
    sweep = validated(Sweep, {"name": path.stem, **content}, shortened(path))
    if is_file_name(wanted):
        sweep._origin = shortened(path)
    return sweep


def is_file_name(wanted: str) -> bool:
    """Return whether the name of a sweep means a file."""
    return wanted.endswith(".toml")


def deltas(sweep: Sweep) -> dict[str, NamedDelta]:
    """Return the built-in deltas and those of the sweep, by name."""
    path = BENCH / "deltas.toml"
    built_in = read_toml(path, "file of deltas")
    return {k: validated(NamedDelta, v, f"{path}: {k}") for k, v in built_in.items()} | dict(sweep.deltas)


def changed(sweep: Sweep, **flags: Any) -> Sweep:
    """Return the sweep with those flags of the command line that were given (not None)."""
    given = {key: value for key, value in flags.items() if value is not None}
    return sweep.model_copy(update=given)
