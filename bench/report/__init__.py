"""Tables, plots and a page from the tidy frame of results and the plan; nothing is trained or scored here.

Importing this package is quick: pandas and matplotlib are imported when something is made.
"""

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

    Failed and missing cells show their cause; equal input gives equal files.

    Args:
        sweep_name: the heading of the page.
        df: the tidy frame of the records, one row per run and task.
        plan: the planned cells in order, as :func:`bench.report.run_entries.join` describes them.
        out_dir: the folder to write to; it is made if needed.
        curves: by run id, frames with the columns ``step, loss, lr, seconds``.
        command: the command that makes the report; the page and the LaTeX tables print it.
        environment: facts about software and hardware that the page prints.
        question: what an ablation asks.
        examples: scores of single examples by run id and task; differences are then paired over examples too.
    """
    from bench.report.differences import difference_tables
    from bench.report.efficiency import efficiency_tables
    from bench.report.figure import svg_text
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
    drawn = {plot: svg_text(plot) for plot in draw_all(entries, curves)}
    facts = {**(environment or {}), **_facts_of_records(entries)}
    html = page(sweep_name, entries, tables, drawn, command=command, environment=facts, question=question)
    paths = [_write_text(out_dir / "report.html", html)]
    for kind, of_kind in tables.items():
        if of_kind:
            paths += _write_tables(out_dir, kind, of_kind, command)
    return paths + [path for plot, svg in drawn.items() for path in _write_plot(out_dir / "plots", plot, svg)]


def table_text(df: pd.DataFrame, plan: Sequence[Mapping[str, Any]], examples: Examples | None = None) -> str:
    """Return the main tables as plain text for a terminal, from the same arguments as :func:`write`.

    They are the results tables, or for an ablation the tables of differences, for tuning those of the best settings.
    """
    from bench.report.differences import difference_tables
    from bench.report.render import plain_text
    from bench.report.results import results_tables
    from bench.report.run_entries import join
    from bench.report.tuning import tuning_tables

    entries = join(df, plan, examples)
    if any(entry.tuning for entry in entries):
        tables = tuning_tables(entries)
    else:
        tables = difference_tables(entries) or results_tables(entries)
    return "\n".join(plain_text(table) for table in tables)


def _facts_of_records(entries: Sequence[RunEntry]) -> dict[str, str]:
    """What the records say about where, when and on what data the runs were made."""
    facts = {
        "hardware": {entry.hardware for entry in entries if entry.hardware},
        "data": {f"{entry.data}{' (synthetic)' * entry.synthetic}" for entry in entries if entry.data},
        "last run finished": {max((entry.finished for entry in entries if entry.finished), default="")} - {""},
    }
    return {key: ", ".join(sorted(values)) for key, values in facts.items() if values}


def _write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _write_tables(out_dir: Path, kind: str, tables: Sequence[Table], command: str) -> list[Path]:
    """Write one Markdown and one LaTeX file for all tables of a kind, and one CSV file for each table."""
    from bench.report import render

    return [
        _write_text(out_dir / f"{kind}.md", "\n".join(render.markdown(table) for table in tables)),
        _write_text(out_dir / f"{kind}.tex", "\n".join(render.latex(table, command) for table in tables)),
        *(_write_text(out_dir / f"{table.key}.csv", render.csv_text(table)) for table in tables),
    ]


def _write_plot(folder: Path, plot: Plot, svg: str) -> list[Path]:
    """Write the numbers of a plot as CSV, and its figure as SVG and PNG."""
    from bench.report.figure import theme

    numbers = _write_text(folder / f"{plot.key}.csv", plot.data.to_csv(index=False))
    vector, picture = _write_text(folder / f"{plot.key}.svg", svg), folder / f"{plot.key}.png"
    with theme():
        plot.figure.savefig(picture)
    return [numbers, vector, picture]
