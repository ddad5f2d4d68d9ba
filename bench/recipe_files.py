"""Recipe files: the packaged ones and those of users, and the tables of fields in them."""

from collections.abc import Iterable, Mapping
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
        UsageError: as :func:`recipe_tables`, or there is no such base.
    """
    base = recipe_table(name).get("base")
    if base is not None and (base not in recipe_names() or base == name):
        raise unknown(f"base of recipe {shortened(name)!r}", shortened(str(base)), recipe_names())
    fields = recipe_fields(base, suite, family, method) if base is not None else {}
    tables = recipe_tables(name)
    keys = ("", family, suite.name, f"{family} {suite.name}", f"method.{method}")
    top, of_family, *stronger = (tables.get(key, {}) for key in keys)
    own = top | of_family | suite.recipe_fields(name, family)
    for layer in stronger:
        own |= layer
    if "epochs" in own:
        fields.pop("steps", None)
    return fields | own


def recipe_tables(name: str) -> dict[str, dict[str, Any]]:
    """Return the fields of a recipe by table: "" for its top, "bart", "image-text", "bart image-text", "method.full".

    Raises:
        UsageError: no such recipe, a table of it that is none, that is there twice, or that is for nothing that there
            is; the message names the file and the table.
        MethodError: a table of a method that is not there.
    """
    content = recipe_table(name)
    tables = _tables(CHECKPOINTS)
    if any(isinstance(value, dict) and key not in tables for key, value in content.items()):
        tables = _tables(backbones.names())  # imports torch, so that the shipped ones are asked first
    for key, value in content.items():
        if isinstance(value, dict) and key not in tables:
            raise unknown(f"table in recipe {shortened(name)!r}", key, tables)
    fields = {"": {key: value for key, value in content.items() if key not in {*tables, "base"}}}
    fields |= {key: _table(content, key, name) for key in content if key in tables and key != "method"}
    of_methods = _table(content, "method", name)
    for key in of_methods:
        place = f"method.{methods.get(key).name}"
        if place in fields:
            raise UsageError(f"recipe {shortened(name)!r}: method.{key}: is there twice; {place} is the same method")
        fields[place] = _table(of_methods, key, name, "method.")
    return fields


def _tables(backbone_names: Iterable[str]) -> list[str]:
    """Return the names that tables of a recipe may have, for the families of these backbones."""
    families = sorted({backbones.shape(name).family for name in backbone_names})
    pairs = [f"{family} {suite}" for family in families for suite in suites.names()]
    return [*families, *suites.names(), *pairs, "method"]


def _table(content: Mapping[str, Any], key: str, recipe: str, prefix: str = "") -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        message = f"expected a table of recipe fields, not {shortened(repr(value))}"
        raise UsageError(f"recipe {shortened(recipe)!r}: {prefix}{key}: {message}")
    return value
