"""The plots of a report, one per module.

A module defines ``ORDER``, its position in the report, and ``draw(entries, curves) -> list[Plot]``. A new plot is a new
module here.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd

from bench.report.figure import Plot, theme
from bench.report.run_entries import RunEntry


def draw_all(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """Return every plot that has data, in order; ``curves`` maps run ids to frames with the columns ``step, loss``."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    modules.sort(key=lambda module: module.ORDER)
    with theme():
        return [plot for module in modules for plot in module.draw(entries, curves)]
