"""The plots of a report, one per module.

A module defines ``ORDER``, its position in the report, and ``drawings(entries, curves) -> list[Drawing]``: the plots of
the entries of one backbone and suite, to be drawn one by one. A new plot is a new module here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

import pandas as pd

from bench.report.figure import Plot, theme
from bench.report.run_entries import RunEntry
from bench.report.table import group_entries

T = TypeVar("T")


def draw_all(
    entries: Sequence[RunEntry],
    curves: Mapping[str, pd.DataFrame],
    on_fault: Callable[[str, Exception], None] | None = None,
) -> list[Plot]:
    """Return every plot that has data, in order; ``curves`` maps run ids to frames with the columns ``step, loss``.

    A plot that fails costs that plot alone: ``on_fault`` is called with a description of it and the exception. Without
    ``on_fault`` the exception is raised.
    """
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    modules.sort(key=lambda module: module.ORDER)
    plots: list[Plot] = []
    with theme():
        for module in modules:
            for group in group_entries(entries, "backbone", "suite"):
                name = (
                    f"{module.__name__.rpartition('.')[2].replace('_', ' ')} of {group[0].backbone}, {group[0].suite}"
                )
                for drawing in attempt(name, partial(module.drawings, group, curves), on_fault) or []:
                    plot = attempt(name, drawing, on_fault)
                    plots += [plot] if plot else []
    return plots


def attempt(name: str, make: Callable[[], T], on_fault: Callable[[str, Exception], None] | None) -> T | None:
    """Return what ``make`` returns, or None where it fails and ``on_fault`` has taken note of it."""
    try:
        return make()
    except Exception as error:  # whatever a drawing library makes of data and labels that nobody thought of
        if on_fault is None:
            raise
        on_fault(name, error)
        return None
