"""Recipe files: the packaged ones and those of users, and the layers of fields in them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import methods
from bench import backbones, suites
from bench.backbones.mini import CHECKPOINTS
from bench.errors import UsageError, unknown
from bench.toml_files import read_toml, shortened

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_table(name: str) -> dict[str, Any]:
    """Read a recipe: a packaged one by name, or a TOML file by path.

    Raises:
        UsageError: no such recipe, or a file that cannot be read as one.
    """
    if name.endswith(".toml"):
        return read_toml(Path(name), "recipe", recipe_names())
    if name not in recipe_names():
        raise unknown("recipe", shortened(name), recipe_names())
    return read_toml(RECIPES / f"{name}.toml", "recipe")


def recipe_fields(name: str, suite: suites.Suite, family: str, method: str) -> dict[str, Any]:
    """Return the fields that a recipe has for a method on a suite and a backbone family.

    A recipe with a ``base``, the name of a packaged one, has the fields of that one but for those that it gives itself.

    Raises:
        UsageError: as :func:`recipe_layers`, or there is no such base.
    """
    base = recipe_table(name).get("base")
    if base is not None and (base not in recipe_names() or base == name):
        raise unknown(f"base of recipe {shortened(name)!r}", shortened(str(base)), recipe_names())
    fields = recipe_fields(base, suite, family, method) if base is not None else {}
    keys = (family, suite.name, f"{family} {suite.name}")
    top, of_family, *stronger = recipe_layers(name, keys, method)
    own = top | of_family | suite.recipe_fields(name, family)
    for layer in stronger:
        own |= layer
    if "epochs" in own:
        fields.pop("steps", None)
    return fields | own


def recipe_layers(name: str, keys: Sequence[str], method: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of a recipe, the later the stronger: its top, its tables ``keys``, its table of the method.

    Raises:
        UsageError: no such recipe, a table of it that is none, or one that is for nothing that there is; the message
            names the file and the table.
    """
    content = recipe_table(name)
    tables = _tables(CHECKPOINTS)
    if any(isinstance(value, dict) and key not in tables for key, value in content.items()):
        tables = _tables(backbones.names())  # imports torch, so that the shipped ones are asked first
    for key, value in content.items():
        if isinstance(value, dict) and key not in tables:
            raise unknown(f"table in recipe {shortened(name)!r}", key, tables)
    of_methods = {methods.get(key).name: fields for key, fields in _table(content, "method", name).items()}
    yield _finite({key: value for key, value in content.items() if key not in {*tables, "base"}}, name)
    for key in keys:
        yield _finite(_table(content, key, name), name)
    yield _finite(_table(of_methods, method, name, "method."), name)


def _tables(backbone_names: Iterable[str]) -> list[str]:
    """Return the names that tables of a recipe may have, for the families of these backbones."""
    families = sorted({backbones.shape(name).family for name in backbone_names})
    pairs = [f"{family} {suite}" for family in families for suite in suites.names()]
    return [*families, *suites.names(), *pairs, "method"]


def _finite(fields: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Refuse numbers that are none, also where a stronger layer hides them."""
    for key, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"recipe {shortened(recipe)!r}: {key}: {value} is no number that can be used")
    return fields


def _table(content: Mapping[str, Any], key: str, recipe: str, prefix: str = "") -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        message = f"expected a table of recipe fields, not {shortened(repr(value))}"
        raise UsageError(f"recipe {shortened(recipe)!r}: {prefix}{key}: {message}")
    return value
