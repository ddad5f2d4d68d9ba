"""Which rows of the miniature suite have a learning rate that was searched for, and which the recipe's own."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from bench.report.run_entries import RunEntry

RECIPE = Path(__file__).parents[1] / "recipes" / "mini.toml"
RATES = {"lr", "projector_lr"}
NAMED = 6  # methods that the note names


@lru_cache
def _rates() -> tuple[str, frozenset[str]]:
    """Return the learning rate of the recipe, and the methods that have one of their own in it."""
    recipe = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    return str(recipe["lr"]), frozenset(name for name, fields in recipe["method"].items() if RATES & fields.keys())


def untuned_note(by_label: Mapping[str, Iterable[RunEntry]]) -> list[str]:
    """Say which rows were trained at the learning rate that the miniature's recipe has for methods without one of
    their own; nothing where there are none."""
    rate, tuned = _rates()
    labels = [
        label
        for label, entries in by_label.items()
        if any(e.synthetic and e.method not in tuned and e.configuration.get("lr") == rate for e in entries)
    ]
    if not labels:
        return []
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return [f"Learning rate not tuned ({rate}): {', '.join(labels[:NAMED])}{more}."]
