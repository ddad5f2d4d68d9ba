"""The language of ablations: axes, steps in common, named deltas, filters, names. It knows no method and
no recipe.

A cell changes some settings of its base. Its name is the base's, then a word for each setting that differs from the
base's own (``vl-pet-large,rank=24,heads=2``), or for each delta (``vl-pet-large,-gate``); the same on every machine.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from bench.errors import UsageError, unknown

EXPRESSION = "="  # a value that begins so is computed from the base's settings and the cell's other values
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def grid(axes: Mapping[str, Sequence[Any]], steps: Sequence[Sequence[str]] = ()) -> Iterator[dict[str, Any]]:
    """Yield every point of the axes' product; axes named together in one of ``steps`` advance together.

    >>> list(grid({"rank": [1, 2], "alpha": [3, 4]}, [["rank", "alpha"]]))
    [{'rank': 1, 'alpha': 3}, {'rank': 2, 'alpha': 4}]

    Raises:
        UsageError: an axis without values, a step over an axis that is not there, is in another step, or is of another
            length.
    """
    group = {}
    for together in steps:
        for name in together:
            if name not in axes:
                raise unknown("axis in zip", name, list(axes))
            if name in group:
                raise UsageError(f"axis {name!r} is zipped twice")
            group[name] = tuple(together)
        lengths = {name: len(axes[name]) for name in together}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"zipped axes must have equally many values: {lengths}")
    if empty := [name for name, values in axes.items() if not values]:
        raise UsageError(f"axis {empty[0]!r} has no values")
    groups = dict.fromkeys(group.get(name, (name,)) for name in axes)
    for choice in product(*(range(len(axes[names[0]])) for names in groups)):
        chosen = {name: axes[name][at] for names, at in zip(groups, choice, strict=True) for name in names}
        yield {name: chosen[name] for name in axes}


def solved(point: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Replace expressions by their values: a name in one means the cell's own value, or else the base's.

    >>> solved({"heads": 8, "rank": "=12*heads", "scale": "=scale/2"}, {"rank": 96, "heads": 4, "scale": 1.0})
    {'heads': 8, 'rank': 96, 'scale': 0.5}

    Raises:
        LookupError: the base has no value of that name.
    """
    values = dict(base) | {name: value for name, value in point.items() if not is_expression(value)}
    point_values = {}
    for name, value in point.items():
        point_values[name] = values[name] = _value(_parsed(value), values) if is_expression(value) else value
    return point_values


def is_expression(value: Any) -> bool:
    """Return whether a value is an expression, which is computed from the base's settings."""
    return isinstance(value, str) and value.startswith(EXPRESSION)


def names_in(value: str) -> set[str]:
    """Return the names an expression refers to. UsageError where it is none."""
    return {node.id for node in ast.walk(_parsed(value)) if isinstance(node, ast.Name)}


def _parsed(text: str) -> ast.expr:
    try:
        tree = ast.parse(text[1:].strip(), mode="eval").body
    except SyntaxError:
        raise UsageError(f"{text!r} is not an expression such as '=2*rank'") from None
    allowed = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Constant, ast.Name, ast.Load, *OPERATORS)
    if not all(isinstance(node, allowed) for node in ast.walk(tree)):
        raise UsageError(f"{text!r}: an expression holds names, constants and + - * / // only")
    return tree


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, values)
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    assert isinstance(node, ast.Name)
    if node.id not in values:
        raise LookupError(f"{node.id!r} has no value in the base")
    return values[node.id]


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
    return [term.strip() for term in re.split(r",(?![^()]*\))", text)]


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
    met = [_met(cells, wanted) for wanted in only] or [[True] * len(cells)]
    unmet = [_met(cells, wanted) for wanted in but] or [[False] * len(cells)]
    return [
        cell.is_base or (any(yes) and not any(no))
        for cell, yes, no in zip(cells, zip(*met, strict=True), zip(*unmet, strict=True), strict=True)
    ]


def _met(cells: Sequence[NamedCell], wanted: str) -> list[bool]:
    if any(cell.name == wanted for cell in cells):
        return [cell.name == wanted for cell in cells]
    met = [all(any(fnmatchcase(fact, term) for fact in cell.facts) for term in terms(wanted)) for cell in cells]
    if not any(met):
        raise unknown("cell in a filter", wanted, dict.fromkeys([c.name for c in cells] + sorted(_facts(cells))))
    return met


def _facts(cells: Sequence[NamedCell]) -> set[str]:
    return {fact for cell in cells for fact in cell.facts}
