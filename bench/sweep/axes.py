"""The language of ablations: axes, steps in common, named deltas, filters, names. It knows no method and
no recipe.

A cell changes some settings of its base. Its name is the base's, then a word for each setting that differs from the
base's own (``vl-pet-large,rank=24,heads=2``), or for each delta (``vl-pet-large,-gate``); the same on every machine.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from bench.errors import UsageError, unknown
from bench.toml_files import shortened


def grid(axes: Mapping[str, Sequence[Any]], steps: Sequence[Sequence[str]] = ()) -> Iterator[dict[str, Any]]:
    """Yield every point of the axes' product; axes named together in one of ``steps`` advance together.

    >>> list(grid({"rank": [1, 2], "alpha": [3, 4]}, [["rank", "alpha"]]))
    [{'rank': 1, 'alpha': 3}, {'rank': 2, 'alpha': 4}]

    Raises:
        UsageError: an axis without values, a step over an axis that is not there, is in another step, or is of another
            length.
    """
    groups = _groups(axes, steps)
    for choice in product(*(range(len(axes[names[0]])) for names in groups)):
        chosen = {name: axes[name][at] for names, at in zip(groups, choice, strict=True) for name in names}
        yield {name: chosen[name] for name in axes}


def number_of_points(axes: Mapping[str, Sequence[Any]], steps: Sequence[Sequence[str]] = ()) -> int:
    """Return how many points :func:`grid` yields; it raises the same errors.

    >>> number_of_points({"rank": [1, 2], "alpha": [3, 4], "heads": [1, 2, 4]}, [["rank", "alpha"]])
    6
    """
    return math.prod(len(axes[names[0]]) for names in _groups(axes, steps))


def _groups(axes: Mapping[str, Sequence[Any]], steps: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the axes in groups that advance together."""
    group: dict[str, tuple[str, ...]] = {}
    for together in steps:
        if len(together) < 2:
            raise UsageError(f"zip: {', '.join(together) or 'nothing'} is no axes in step; name two or more")
        for name in together:
            if name not in axes:
                raise unknown("axis in zip:", shortened(name), list(axes))
            if name in group:
                raise UsageError(f"zip: axis {name!r} is in it twice")
            group[name] = tuple(together)
        lengths = {name: len(axes[name]) for name in together}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"zip: axes in step must have equally many values: {lengths}")
    if empty := [name for name, values in axes.items() if not values]:
        raise UsageError(f"axis {empty[0]!r} has no values")
    return list(dict.fromkeys(group.get(name, (name,)) for name in axes))


def written(value: Any) -> str:
    """Return a value as names and filters write it.

    >>> written(True), written(1e-3), written([0, 1]), written("cat(x,h)")
    ('true', '0.001', '0+1', 'cat(x,h)')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(map(written, value))
    return str(value)


def words(changes: Mapping[str, Any]) -> list[str]:
    """Return the words of a cell's name for the settings it changes; another method takes the place of the base's name.

    >>> words({"rank": 24, "gate": "none"})
    ['rank=24', 'gate=none']
    """
    return [f"{name}={written(value)}" for name, value in changes.items() if name != "method"]


def terms(text: str) -> list[str]:
    """Split a filter or a name at its commas, except for those inside parentheses.

    >>> terms("lora,gate_input=cat(x,h)")
    ['lora', 'gate_input=cat(x,h)']
    """
    parts, end, next_parenthesis = [], len(text), ""
    for index in range(len(text) - 1, -1, -1):
        if text[index] in "()":
            next_parenthesis = text[index]
        elif text[index] == "," and next_parenthesis != ")":
            parts.append(text[index + 1 : end])
            end = index
    return [part.strip() for part in [text[:end], *reversed(parts)]]


@dataclass(frozen=True)
class NamedCell:
    """A cell as filters see it: its name, the terms that are true of it, and whether it is a base."""

    name: str
    facts: frozenset[str]
    is_base: bool


def stay(cells: Sequence[NamedCell], only: Sequence[str], but: Sequence[str]) -> list[bool]:
    """Return, for each cell, whether the filters keep it.

    A filter is a cell's name, or terms that must all hold of it: a word of its name, or ``key=value``, where the value
    may have wildcards. A base stays; another cell stays if it meets one of ``only``, if any, and none of ``but``.

    Raises:
        UsageError: a filter that no cell meets; near matches are named.
    """
    met = [_met(cells, wanted, "only") for wanted in only] or [[True] * len(cells)]
    unmet = [_met(cells, wanted, "except") for wanted in but] or [[False] * len(cells)]
    return [
        cell.is_base or (any(yes) and not any(no))
        for cell, yes, no in zip(cells, zip(*met, strict=True), zip(*unmet, strict=True), strict=True)
    ]


def _met(cells: Sequence[NamedCell], wanted: str, field: str) -> list[bool]:
    if any(cell.name == wanted for cell in cells):
        return [cell.name == wanted for cell in cells]
    met = [all(any(fnmatchcase(fact, term) for fact in cell.facts) for term in terms(wanted)) for cell in cells]
    if not any(met):
        names = dict.fromkeys([cell.name for cell in cells] + sorted(_facts(cells)))
        raise unknown(f"cell in {field}:", shortened(wanted), names)
    return met


def _facts(cells: Sequence[NamedCell]) -> set[str]:
    return {fact for cell in cells for fact in cell.facts}
