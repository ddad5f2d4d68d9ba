"""What the plots share: the Plot they return, the look, and one colour and marker per family of methods."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench.report.escaping import shortened
from bench.report.families import UNKNOWN

LONGEST = 56  # signs of a label that plots show; the CSV files of the numbers have all of them
COLUMN, PAGE = 3.25, 6.75  # inches: one column and the full width of a two-column paper
INK, FAINT = "#222222", "#8a8a8a"


@dataclass(frozen=True, eq=False)
class Plot:
    """A drawn figure, the numbers behind it, and a sentence that describes it to those who cannot see it."""

    key: str
    title: str
    alt: str
    figure: Figure
    data: pd.DataFrame


Drawing = Callable[[], Plot]
"""A plot that is still to be drawn."""


def svg_text(plot: Plot) -> str:
    """Return the figure as SVG, the same on every call: without a date, and with text kept as text."""
    out = io.StringIO()
    with theme():
        plot.figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def png_bytes(plot: Plot) -> bytes:
    """Return the figure as PNG."""
    out = io.BytesIO()
    with theme():
        plot.figure.savefig(out, format="png")
    return out.getvalue()


def pdf_bytes(plot: Plot) -> bytes:
    """Return the figure as PDF with embedded fonts, the same on every call."""
    out = io.BytesIO()
    with theme():
        plot.figure.savefig(out, format="pdf", metadata={"CreationDate": None})
    return out.getvalue()


def file_bytes(plot: Plot) -> dict[str, bytes]:
    """Return the figure in every format that reports write, by the suffix of the file."""
    svg = svg_text(plot).encode("utf-8", errors="backslashreplace")
    plot.figure.set_layout_engine("none")  # it is laid out, and doing it again takes as long as drawing
    return {"svg": svg, "png": png_bytes(plot), "pdf": pdf_bytes(plot)}


def plot_label(text: str) -> str:
    """Return a label short enough to leave room for the plot."""
    return shortened(text, LONGEST)


def legend_text(text: str) -> str:
    """Return a label that legends show: matplotlib hides those that begin with an underscore.

    >>> legend_text("_x"), legend_text("lora")
    (' _x', 'lora')
    """
    return plot_label(f" {text}" if text.startswith("_") else text)


@dataclass(frozen=True)
class FamilyStyle:
    """The colour and the marker that all methods of a family share in every plot."""

    name: str
    colour: str
    marker: str


def _palette() -> tuple[FamilyStyle, ...]:
    blue, orange, green, red, purple, brown, pink, _, _, sky = sns.color_palette("colorblind").as_hex()
    return (
        FamilyStyle("enhanced", orange, "*"),
        FamilyStyle("VL-PET", red, "D"),
        FamilyStyle("adapter", blue, "o"),
        FamilyStyle("low rank", green, "s"),
        FamilyStyle("scale and bias", purple, "^"),
        FamilyStyle("prompt", brown, "v"),
        FamilyStyle("side network", sky, "P"),
        FamilyStyle("reference", INK, "X"),
        FamilyStyle(UNKNOWN, pink, "h"),
    )


FAMILY_STYLES = {style.name: style for style in _palette()}


def family_style(family: str) -> FamilyStyle:
    """Return the colour and marker of a family; a family without a style of its own looks like "other"."""
    return FAMILY_STYLES.get(family) or replace(FAMILY_STYLES[UNKNOWN], name=family)


def text_colour_on(colour: str) -> str:
    """Return the colour in which text can be read on a background: white on dark ones, near black on light ones."""
    red, green, blue = mpl.colors.to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.58 else INK


def shades(colour: str, count: int) -> list:
    """Return ``count`` shades of a colour, from darker to lighter; for one shade the colour itself."""
    if count == 1:
        return [colour]
    ends = [sns.blend_palette([colour, end], 100)[45] for end in ("black", "white")]
    return sns.blend_palette([ends[0], colour, ends[1]], count)


@contextmanager
def theme() -> Iterator[None]:
    """Apply the look of every plot inside the block; text stays text in SVG, and fonts are embedded in PDF."""
    look = sns.axes_style("whitegrid") | sns.plotting_context("paper")
    rules: dict[Any, Any] = {
        **{"font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7},
        **{"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK},
        **{"axes.edgecolor": "#bbbbbb", "grid.color": "#e6e6e6", "axes.linewidth": 0.6, "grid.linewidth": 0.6},
        **{"axes.titlesize": 8, "axes.titlelocation": "left", "axes.titleweight": "bold", "figure.titlesize": 9},
        **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True},
        **{"svg.fonttype": "none", "svg.hashsalt": "vlpet-bench", "pdf.fonttype": 42, "figure.dpi": 100},
        **{"savefig.dpi": 200, "font.family": "sans-serif"},
        **{"text.parse_math": False, "text.usetex": False},  # labels are never mathematics or LaTeX
    }
    with (
        mpl.rc_context({**look, **rules, "font.sans-serif": mpl.rcParamsDefault["font.sans-serif"]}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the viewer of an SVG has more fonts
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # labels that leave no room
        yield


def canvas(width: float, height: float, title: str, **grid: Any) -> tuple[Figure, list]:
    """Return a titled figure of a size in inches, and its axes as a flat list; pyplot's global state is not touched."""
    figure = Figure(figsize=(width, height), layout="constrained")
    size = 9 if width == PAGE else 8
    fits = int(width * 72 / (0.66 * size))  # a bold letter is about two thirds of its size wide
    figure.suptitle(fill(shortened(title, 3 * LONGEST), fits), x=0.01, ha="left", fontsize=size, fontweight="bold")
    axes = figure.subplots(squeeze=False, **grid)
    return figure, list(axes.flat)
