"""What a suite is: the tasks that are trained together, and everything that they share."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench import tasks
from bench.errors import unknown
from bench.tasks import Task


@dataclass(frozen=True)
class Features:
    """The visual features of a suite.

    Attributes:
        kind: ``grid`` (an h5 file per image) or ``frames`` (an npz file per video).
        columns: the number of columns of the published features.
    """

    kind: Literal["grid", "frames"]
    columns: int

    @property
    def suffix(self) -> str:
        """The ending of the names of the files."""
        return ".h5" if self.kind == "grid" else ".npz"


@dataclass(frozen=True)
class Miniature:
    """A small synthetic data root that a suite can generate, so that it runs without any real data.

    Attributes:
        version: raised when the same seed gives other data; it is in the id of every run on them.
        write: ``write(root, seed)`` writes the annotations and features of the suite below an empty folder.
        columns: the number of columns of the generated features.
        name: what the folder of the generated data is called; "" for the suite's name. A generator that several suites
            share has a name of its own, so that they share the folder too.
        sources: the files of the generator, by default the one that defines ``write``.
    """

    version: int
    write: Callable[[Path, int], None]
    columns: int
    name: str = ""
    sources: tuple[Path, ...] = ()

    @property
    def edition(self) -> str:
        """The version, and a digest of the generator's source files.

        Data generated before a change of the generator have another edition, also where nobody raised the version.
        """
        sources = self.sources or (Path(inspect.getfile(inspect.unwrap(self.write))),)
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
        return f"v{self.version}-{digest[:8]}"


@dataclass(frozen=True, eq=False)
class Suite:
    """A suite: tasks that one model is trained on jointly.

    Attributes:
        name, label: identity, and title in tables.
        official_tasks: the names of the tasks that the suite stands for, in the official order. A run for which no
            tasks are chosen trains these, whatever other tasks are registered for the suite.
        annotations: glob patterns, below the data root, of the annotation files; the fingerprint of the data is made
            of these files.
        features: the visual features.
        recipes: fields of the packaged recipes that are different on this suite, by recipe and then by backbone family
            ("" for every family). Those of a family are stronger; tables of the user's own recipe file are stronger
            than both.
        miniature: the generator of the suite's synthetic data; None if there is none.
        version: raised when the same name comes to mean something else; it is in the id of every run on the suite.
    """

    name: str
    label: str
    official_tasks: tuple[str, ...]
    annotations: tuple[str, ...]
    features: Features
    recipes: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    miniature: Miniature | None = None
    version: int = 1

    @property
    def tasks(self) -> list[Task]:
        """The registered tasks of the suite: the official ones in the official order, then the others."""
        registered = tasks.names(self.name)
        official = [name for name in self.official_tasks if name in registered]
        return [tasks.get(name) for name in dict.fromkeys([*official, *registered])]

    def select(self, chosen: Iterable[str]) -> tuple[str, ...]:
        """Return the chosen tasks in the order of the suite, the official ones if none is chosen.

        Raises:
            UsageError: a name is no task of this suite; near matches are named.
        """
        chosen = set(chosen)
        registered = [task.name for task in self.tasks]
        for name in sorted(chosen - set(registered)):
            raise unknown(f"task of suite {self.name}", name, registered)
        return tuple(name for name in registered if name in chosen) or self.official_tasks

    def columns(self, miniature: bool) -> int:
        """Return the number of feature columns of the published data, or of the miniature ones."""
        return self.miniature.columns if miniature and self.miniature else self.features.columns

    def recipe_fields(self, recipe: str, family: str) -> dict[str, Any]:
        """Return the fields of a packaged recipe that are different on this suite and backbone family."""
        by_family = self.recipes.get(recipe, {})
        return {**by_family.get("", {}), **by_family.get(family, {})}
