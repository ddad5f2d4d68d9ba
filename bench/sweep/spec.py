"""The schema of a sweep file, and of the cells that a sweep is expanded to."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.config import FrozenModel, Run, validated
from bench.errors import UsageError, unknown

BENCH = Path(__file__).resolve().parents[1]
SWEEPS = BENCH / "sweeps"
ABLATIONS = BENCH / "ablations"

Plot = Literal["curve", "heatmap", "bars"]


class Variant(FrozenModel):
    """A method with further settings, which tables list under a label."""

    label: str
    method: str
    set: Mapping[str, Any] = Field(default_factory=dict)


class NamedDelta(FrozenModel):
    """A part of a method by its name: the settings that take it away from a base, and those that give it to one."""

    drop: Mapping[str, Any] = Field(default_factory=dict)
    add: Mapping[str, Any] = Field(default_factory=dict)


class Sweep(FrozenModel):
    """The fields of a sweep file. The runs are the product backbones x (methods, variants) x suites x seeds.

    ``suites``, if empty, are those of the ``tasks``, and without tasks the built-in ones. ``tasks``, if empty, are the
    official ones of each suite. ``set`` holds settings for every run; ``per`` refines them by suite, recipe or method
    name, the later the stronger; ``given``, the settings of the command line, is stronger than both.

    With ``axes``, ``drop`` or ``add`` every method and variant is a base, and each base has further cells: the points
    of the axes' product, and one cell for each name in ``drop`` and ``add`` (``"a+b"`` drops both). An axis is a
    recipe field, a method option, or ``method``, ``tasks``, ``data``, ``recipe``; a value that begins with ``=`` is
    computed from the base's settings (``"=2*rank"``). ``zip`` lists axes that advance together; ``only``
    and ``except`` are filters (:func:`bench.sweep.axes.stay`); ``deltas`` adds to the built-in ones. ``plot`` is how
    the differences to the base are drawn, by default what the axes suggest.
    """

    name: str
    question: str = ""
    backbones: tuple[str, ...] = ("mini-bart",)
    methods: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    recipe: str | None = None
    data: str | None = None
    set: Mapping[str, Any] = Field(default_factory=dict)
    per: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    given: Mapping[str, Any] = Field(default_factory=dict)
    variant: tuple[Variant, ...] = ()
    axes: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    steps: tuple[tuple[str, ...], ...] = Field((), alias="zip")
    only: tuple[str, ...] = ()
    but: tuple[str, ...] = Field((), alias="except")
    drop: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    deltas: Mapping[str, NamedDelta] = Field(default_factory=dict)
    plot: Plot | None = None

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
    if wanted.endswith(".toml"):
        path = Path(wanted)
    else:
        if wanted not in [*names(), *names(ABLATIONS)]:
            raise unknown("sweep", wanted, [*names(), *names(ABLATIONS)])
        path = (SWEEPS if wanted in names() else ABLATIONS) / f"{wanted}.toml"
    return validated(Sweep, {"name": path.stem, **_content(path)}, str(path))


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such sweep file; built-in sweeps: {', '.join(names())}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from None


def deltas(sweep: Sweep) -> dict[str, NamedDelta]:
    """Return the built-in deltas and those of the sweep, by name."""
    path = BENCH / "deltas.toml"
    return {k: validated(NamedDelta, v, f"{path}: {k}") for k, v in _content(path).items()} | dict(sweep.deltas)


def changed(sweep: Sweep, **flags: Any) -> Sweep:
    """Return the sweep with those flags of the command line that were given (not None)."""
    given = {key: value for key, value in flags.items() if value is not None}
    return sweep.model_copy(update=given)
