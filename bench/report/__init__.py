"""Tables, plots and a page from the tidy frame of results; nothing here trains or needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.figure import Plot
    from bench.report.run_entries import Examples, RunEntry
    from bench.report.table import Table


def write(
    sweep_name: str,
    df: pd.DataFrame,
    plan: Sequence[Mapping[str, Any]],
    out_dir: Path,
    curves: Mapping[str, pd.DataFrame],
    *,
    command: str | None = None,
    environment: Mapping[str, str] | None = None,
    question: str = "",
    examples: Examples | None = None,
) -> list[Path]:
    """Write all tables, plots and ``report.html`` of a sweep under ``out_dir`` and return their paths, the page first.

    ``df`` is the tidy frame of the records, ``plan`` the planned cells in order, ``curves`` maps run ids to frames of
    ``step, loss, lr, seconds``. ``command`` made the runs and ``environment`` says where; the page prints both, and the
    ``question`` of an ablation. ``examples`` holds scores of single examples by run and task
    (:func:`bench.example_scores.example_scores`): differences are then paired over examples too.
    Failed and missing cells show their cause; equal input gives equal files.
    """
    from bench.report.differences import difference_tables
    from bench.report.efficiency import efficiency_tables
    from bench.report.figure import svg
    from bench.report.page import page
    from bench.report.plots import draw_all
    from bench.report.results import results_tables
    from bench.report.run_entries import join
    from bench.report.tuning import tuning_tables

    entries = join(df, plan, examples)
    tuning = any(entry.tuning for entry in entries)
    command = command or f"python -m bench sweep {sweep_name}"
    tables = {
        "tuning": tuning_tables(entries) if tuning else [],
        "differences": [] if tuning else difference_tables(entries),
        "results": results_tables(entries),
        "efficiency": efficiency_tables(entries),
    }
    drawn = {plot: svg(plot) for plot in draw_all(entries, curves)}
    where = {**(environment or {}), **_where(entries)}
    text = page(sweep_name, entries, tables, drawn, command=command, environment=where, question=question)
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = [_put(out_dir / "report.html", text)]
    for name, kind in tables.items():
        if kind:
            paths += _put_tables(out_dir, name, kind, command)
    return paths + [path for plot, text in drawn.items() for path in _put_plot(out_dir / "plots", plot, text)]


def table_text(df: pd.DataFrame, plan: Sequence[Mapping[str, Any]], examples: Examples | None = None) -> str:
    """The results tables as plain text for a terminal; of an ablation its differences, of tuning its yield."""
    from bench.report import render
    from bench.report.differences import difference_tables
    from bench.report.results import results_tables
    from bench.report.run_entries import join
    from bench.report.tuning import tuning_tables

    entries = join(df, plan, examples)
    if any(entry.tuning for entry in entries):
        return "\n".join(render.text(table) for table in tuning_tables(entries))
    return "\n".join(render.text(table) for table in difference_tables(entries) or results_tables(entries))


def compare_with_paper(df: pd.DataFrame, paper_csv_dir: Path) -> pd.DataFrame:
    """Our scores beside published ones; see :func:`bench.report.paper_comparison.compare_with_paper`."""
    from bench.report.paper_comparison import compare_with_paper

    return compare_with_paper(df, paper_csv_dir)


def _where(entries: Sequence[RunEntry]) -> dict[str, str]:
    """What the records themselves say about where and on what data the runs were made."""
    found = {
        "hardware": {entry.hardware for entry in entries if entry.hardware},
        "data": {f"{entry.data}{' (synthetic)' * entry.synthetic}" for entry in entries if entry.data},
        "last run finished": {max((entry.finished for entry in entries if entry.finished), default="")} - {""},
    }
    return {key: ", ".join(sorted(values)) for key, values in found.items() if values}


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _put_tables(out_dir: Path, name: str, tables: Sequence[Table], command: str) -> list[Path]:
    """One Markdown and one LaTeX file for all tables of a kind, one CSV for each."""
    from bench.report import render

    return [
        _put(out_dir / f"{name}.md", "\n".join(render.markdown(table) for table in tables)),
        _put(out_dir / f"{name}.tex", "\n".join(render.latex(table, command) for table in tables)),
        *(_put(out_dir / f"{table.key}.csv", render.csv_text(table)) for table in tables),
    ]


def _put_plot(folder: Path, plot: Plot, svg_text: str) -> list[Path]:
    from bench.report.figure import theme

    numbers = _put(folder / f"{plot.key}.csv", plot.data.to_csv(index=False))
    drawing, picture = _put(folder / f"{plot.key}.svg", svg_text), folder / f"{plot.key}.png"
    with theme():
        plot.figure.savefig(picture)
    return [numbers, drawing, picture]
