"""Time and memory bars per hardware, precision and batch size; without a device peak, the computed split of memory."""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.efficiency import MIB, conditions_of, entries_under, memory_key
from bench.report.figure import FAINT, PAGE, Drawing, Plot, canvas, family_style, plot_label
from bench.report.run_entries import RunEntry
from bench.report.stats import mean
from bench.report.table import ABSENT, REFERENCE, entries_by_label, run_ids_of, slug, title_of

ORDER = 3
LINE = 0.165
PARTS = ("frozen", "trainable", "gradients", "optimizer", "activations")  # frozen: all weights less the trainable


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return one plot for the conditions under which a run finished."""
    keys = conditions_of(entries)
    return [partial(_draw, entries_under(entries, key), key, len(keys) > 1) for key in keys]


def _draw(entries: Sequence[RunEntry], conditions: str, several: bool) -> Plot:
    numbers = _numbers(entries)
    title = f"Time and memory: {title_of(entries)}, on {conditions}"
    figure, (time, memory) = canvas(PAGE, 1.15 + LINE * len(numbers), title, ncols=2, sharey=True)
    codes = {
        label: next((entry.code for entry in seeds if entry.code), ABSENT)
        for label, seeds in entries_by_label(entries).items()
    }
    _bars(time, numbers, "step_ms", codes)
    time.set_title("Training step (ms, median)", fontsize=7.5)
    time.set_yticks(range(len(numbers)), [plot_label(name) for name in numbers["method"]])
    time.set_ylim(len(numbers) - 0.4, -0.6)
    _memory(figure, memory, entries, numbers, codes)
    alt = f"Horizontal bars of the step time and the memory of {len(numbers)} methods on {conditions}."
    key = slug("cost", entries[0].backbone, entries[0].suite, *([conditions] if several else []))
    return Plot(key, title, alt, figure, numbers)


def _numbers(entries: Sequence[RunEntry]) -> pd.DataFrame:
    """Mean step time (ms) and memory (MiB) of every method over its timed seeds, with the ids of its runs."""
    rows = []
    for label, seeds in entries_by_label(entries).items():
        row: dict[str, object] = {"method": label, "family": seeds[0].family}
        row["step_ms"] = _mean(seeds, "step_seconds", 1e3)
        row |= {"device_peak_mib": _mean(seeds, "peak_memory_bytes", 1 / MIB)}
        row |= {"host_peak_mib": _mean(seeds, "host_memory_bytes", 1 / MIB)}
        row |= {f"{part}_mib": _mean(seeds, f"analytic_{part}", 1 / MIB) for part in ("weights", *PARTS[1:])}
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame = frame.astype({column: float for column in frame.columns if column.endswith(("_ms", "_mib"))})
    frame = frame.assign(frozen_mib=frame["weights_mib"] - frame["trainable_mib"])
    return frame.assign(run_ids=[" ".join(run_ids_of(seeds)) for seeds in entries_by_label(entries).values()])


def _mean(seeds: Sequence[RunEntry], key: str, scale: float) -> float | None:
    values = [entry.measured[key] * scale for entry in seeds if key in entry.measured and entry.timed]
    return mean(values) if values else None


def _memory(
    figure: Figure, axes: Axes, entries: Sequence[RunEntry], numbers: pd.DataFrame, codes: Mapping[str, str]
) -> None:
    """Draw the best figure there is: device peak, else the computed split, else the host's resident memory."""
    if memory_key(entries)[0] == "peak_memory_bytes":
        _bars(axes, numbers, "device_peak_mib", codes)
        axes.set_title("Peak device memory (MiB)", fontsize=7.5)
    elif numbers["weights_mib"].notna().any():
        _stack(figure, axes, numbers, codes)
        axes.set_title("Memory (MiB), computed split", fontsize=7.5)
    else:
        _bars(axes, numbers, "host_peak_mib", codes)
        axes.set_title("Peak host memory of the process (MiB)", fontsize=7.5)


def _bars(axes: Axes, numbers: pd.DataFrame, column: str, codes: Mapping[str, str]) -> None:
    values = numbers[column]
    pairs = zip(numbers["method"], numbers["family"], strict=True)
    colours = [FAINT if method == REFERENCE else family_style(family).colour for method, family in pairs]
    axes.barh(range(len(values)), values.fillna(0.0), height=0.72, color=colours)
    _totals(axes, numbers["method"], values, codes)


def _stack(figure: Figure, axes: Axes, numbers: pd.DataFrame, codes: Mapping[str, str]) -> None:
    left = pd.Series(0.0, index=numbers.index)
    for part, colour in zip(PARTS, sns.color_palette("mako_r", len(PARTS)), strict=True):
        values = numbers[f"{part}_mib"].fillna(0.0)
        axes.barh(range(len(values)), values, left=left, height=0.72, color=colour, label=part, linewidth=0)
        left = left + values
    _totals(axes, numbers["method"], left.where(numbers["weights_mib"].notna()), codes)
    figure.legend(
        loc="outside lower right",
        ncols=len(PARTS),
        frameon=False,
        columnspacing=0.8,
        handlelength=0.9,
        title="Computed from the model's tensors: the device reports no peak of its own",
        title_fontsize=7,
    )


def _totals(axes: Axes, methods: pd.Series, values: pd.Series, codes: Mapping[str, str]) -> None:
    """Write each total after its bar, or in place of the bar the code that says why there is none."""
    for line, (method, value) in enumerate(zip(methods, values, strict=True)):
        if pd.isna(value):
            axes.text(0, line, f" {codes[method]}", va="center", fontsize=6, color="#b02a2a", style="italic")
        else:
            axes.text(value, line, f" {value:,.1f}", va="center", fontsize=6)
    axes.set_xlim(0, (values.fillna(0.0).max() or 1.0) * 1.14)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
