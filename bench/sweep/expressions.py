"""Values of cells that are computed from the base: ``"=2*rank"``.

What an expression may build is bounded: its length, the size of its numbers and texts. It holds names, constants and
arithmetic, and runs no code.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from bench.errors import UsageError
from bench.toml_files import shortened

EXPRESSION = "="  # a value that begins so is computed from the base's settings and the cell's other values
LONGEST = 200  # characters of an expression, and of a text that one builds
LARGEST = 2**63  # the absolute value of a number
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def is_expression(value: Any) -> bool:
    """Return whether a value is an expression, which is computed from the base's settings."""
    return isinstance(value, str) and value.startswith(EXPRESSION)


def names_in(text: str) -> set[str]:
    """Return the names an expression refers to.

    Raises:
        UsageError: it is none, is too long, or has no value although it refers to nothing.
    """
    tree = _parsed(text)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not names:
        try:
            _value(tree, {})
        except (ArithmeticError, TypeError) as fault:
            raise UsageError(f"{shortened(repr(text))} has no value: {fault}") from None
    return names


def solved(point: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Replace expressions by their values: a name in one means the cell's own value, or else the base's.

    >>> solved({"heads": 8, "rank": "=12*heads", "scale": "=scale/2"}, {"rank": 96, "heads": 4, "scale": 1.0})
    {'heads': 8, 'rank': 96, 'scale': 0.5}

    Raises:
        LookupError: the base has no value of that name.
        ArithmeticError: a division by zero, or a number or text that is too large.
        TypeError: arithmetic with what is no number; texts can be joined with ``+``.
    """
    values = dict(base) | {name: value for name, value in point.items() if not is_expression(value)}
    point_values = {}
    for name, value in point.items():
        point_values[name] = values[name] = _value(_parsed(value), values) if is_expression(value) else value
    return point_values


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise UsageError(f"{shortened(repr(text))}: an expression has at most {LONGEST} characters")
    try:
        tree = ast.parse(text[1:].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"{shortened(repr(text))} is not an expression such as '=2*rank'") from None
    allowed = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Constant, ast.Name, ast.Load, *OPERATORS)
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    plain = all(isinstance(value, int | float | str) for value in constants)
    if not plain or not all(isinstance(node, allowed) for node in ast.walk(tree)):
        raise UsageError(f"{shortened(repr(text))}: an expression holds names, constants and + - * / // only")
    return tree


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, values)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, values), _value(node.right, values)
        are_texts = isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add)
        if not are_texts and not (_is_number(left) and _is_number(right)):
            raise TypeError(f"no arithmetic with {shortened(repr(left), 20)} and {shortened(repr(right), 20)}")
        return _bounded(OPERATORS[type(node.op)](left, right))
    assert isinstance(node, ast.Name)
    if node.id not in values:
        raise LookupError(f"{node.id!r} has no value in the base")
    return values[node.id]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST:
        raise ArithmeticError(f"a text of more than {LONGEST} characters")
    if _is_number(value) and not (math.isfinite(value) and abs(value) <= LARGEST):
        raise ArithmeticError(f"a number beyond {LARGEST:.0e}")
    return value
