"""The plots of a report: each module here is one, with ``ORDER`` and ``draw(entries, curves) -> list[Plot]``."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd

from bench.report.figure import Plot, theme
from bench.report.run_entries import RunEntry


def draw_all(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """Draw every plot that has something to show; ``curves`` maps run ids to frames of ``step, loss``."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    with theme():
        return [plot for module in sorted(modules, key=lambda it: it.ORDER) for plot in module.draw(entries, curves)]
