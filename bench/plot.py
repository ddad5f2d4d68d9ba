"""The plots of reports as functions for notebooks, each from results to a matplotlib Figure.

>>> import bench
>>> figure = bench.plot.tradeoff(bench.load_results("results", sweep="default").query("suite == 'image-text'"))

There is a function for every module in ``bench/report/plots``, called as the module is; ``dir(bench.plot)`` lists them.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "report" / "plots"


def __dir__() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")


def __getattr__(name: str) -> "Callable[..., Figure]":
    if name not in __dir__():
        raise AttributeError(f"there is no plot {name!r}; there are {', '.join(__dir__())}")

    def draw(results: "pd.DataFrame", curves: "Mapping[str, pd.DataFrame] | None" = None) -> "Figure":
        """Draw a plot of results.

        Args:
            results: of one backbone and suite, as :func:`bench.load_results` returns them.
            curves: training curves by run id, as :func:`bench.load_curves` returns them, for the plot of those.

        Raises:
            ValueError: the results give no such plot, or several, for several backbones, suites or machines.
        """
        from bench.report.figure import theme
        from bench.report.run_entries import join
        from bench.report.table import group_entries

        module = import_module(f"bench.report.plots.{name}")
        with theme():
            groups = group_entries(join(results, []), "backbone", "suite")
            drawings = [drawing for group in groups for drawing in module.drawings(group, curves or {})]
            plots = [drawing() for drawing in drawings]
        if len(plots) != 1:
            which = "; ".join(plot.title for plot in plots) or "nothing to draw"
            raise ValueError(f"{name}: these results give {len(plots)} plots ({which}); select the rows of one")
        return plots[0].figure

    draw.__name__ = draw.__qualname__ = name
    return draw
