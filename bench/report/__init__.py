"""Tables, plots and a page from the tidy frame of results and the plan; nothing is trained or scored here.

Importing this package is quick: pandas and matplotlib are imported when something is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.files import one_line

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.figure import Plot
    from bench.report.paper_comparison import PaperComparison
    from bench.report.run_entries import Examples, RunEntry
    from bench.report.standing import Standing
    from bench.report.table import Table
    from bench.report.verdicts import Verdict

    T = TypeVar("T", Table, Plot)


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
    left_out: Sequence[str] = (),
    on_fault: Callable[[str], None] | None = None,
    style: str = "plain",
    paper: PaperComparison | None = None,
    runs: Mapping[str, Mapping[str, Any]] | None = None,
    sweep_file: str = "",
    predictions: Sequence[Mapping[str, Any]] = (),
) -> list[Path]:
    """Write all tables, plots and ``report.html`` of a sweep under ``out_dir`` and return their paths, the page first.

    Failed and missing cells show their cause; equal input gives equal files. All tables are written before any plot is
    drawn, and a plot that cannot be drawn costs that plot alone: the page says so.

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
        left_out: what the caller could not read, a line each, for the page.
        on_fault: called with a line for every plot that cannot be drawn and every curve without a usable point.
        style: the venue whose widths LaTeX tables have, of ``bench.report.venues.STYLES``.
        paper: published scores beside ours, which get tables of their own; what is left out of them the page says.
        runs: everything about single runs by run id, for parts of the page of their own.
        sweep_file: the plan as a text, which the page shows.
        predictions: the same examples by several methods, for the page.
    """
    from bench.report.curves import unusable
    from bench.report.page import PageFacts, page
    from bench.report.run_entries import join

    entries = join(df, plan, examples)
    command = command or f"python -m bench sweep {sweep_name}"
    tables = tables_by_kind(entries, paper)
    left_out = [*left_out, *(paper.reasons if paper else ())]
    table_paths = _write_tables(out_dir, tables, command, style)
    faults = [*left_out, *unusable(curves)]
    drawn = _drawn(entries, curves, faults)
    plot_paths = [path for plot in drawn for path in _write_plot(out_dir / "plots", *plot)]
    facts = PageFacts(
        command,
        style,
        {**(environment or {}), **_facts_of_records(entries)},
        question,
        faults,
        runs or {},
        sweep_file,
        predictions,
    )
    svgs = {plot: files["svg"].decode("utf-8") for plot, files in drawn}
    html = page(sweep_name, entries, tables, svgs, facts, curves)
    if on_fault:
        for fault in faults[len(left_out) :]:
            on_fault(fault)
    return [_write_text(out_dir / "report.html", html), *table_paths, *plot_paths]


def tables_by_kind(
    entries: Sequence[RunEntry], paper: PaperComparison | None = None, kinds: Sequence[str] = ()
) -> dict[str, list[Table]]:
    """Return the tables of a report by the name of the files that they are written to; see :func:`write`.

    ``kinds`` are those that are wanted, by default all; others are not computed.
    """
    from bench.report.differences import difference_tables, leader_tables
    from bench.report.efficiency import efficiency_tables
    from bench.report.paper_table import paper_tables
    from bench.report.results import results_tables
    from bench.report.standing_table import standing_tables
    from bench.report.task_columns import task_headings
    from bench.report.tuning import tuning_tables

    tuning, ablation = any(entry.tuning for entry in entries), any(entry.base for entry in entries)
    titles = {heading.task: heading.title for heading in task_headings(entries)}
    make: dict[str, Callable[[], list[Table]]] = {
        "tuning": lambda: tuning_tables(entries) if tuning else [],
        "standings": lambda: [] if ablation or tuning else standing_tables(entries),
        "differences": lambda: [] if tuning else difference_tables(entries) if ablation else leader_tables(entries),
        "results": lambda: results_tables(entries),
        "efficiency": lambda: efficiency_tables(entries),
        "paper": lambda: paper_tables(paper, titles) if paper else [],
    }
    return {kind: with_distinct_keys(make[kind]()) for kind in kinds or make}


def _drawn(
    entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame], faults: list[str]
) -> list[tuple[Plot, dict[str, bytes]]]:
    """Draw all plots, each with its files by format; one that cannot be drawn adds a line to ``faults`` instead."""

    def on_fault(name: str, error: Exception) -> None:
        faults.append(f"plot not drawn: {name} ({type(error).__name__}: {one_line(error)})")

    try:
        from bench.report.figure import file_bytes
        from bench.report.plots import attempt, draw_all
    except ImportError as error:  # a broken installation of matplotlib
        on_fault("all plots", error)
        return []
    drawn = []
    for plot in with_distinct_keys(attempt("all plots", lambda: draw_all(entries, curves, on_fault), on_fault) or []):
        files = attempt(plot.title, partial(file_bytes, plot), on_fault)
        drawn += [(plot, files)] if files else []
    return drawn


def write_comparison(
    folder: Path, made: Sequence[tuple[Standing, Sequence[Verdict]]], command: str, style: str = "plain"
) -> list[Path]:
    """Write what ``compare`` says of each backbone and suite under ``folder`` and return the paths.

    ``command`` and ``style`` are those of :func:`write`.
    """
    from bench.report.figure import file_bytes
    from bench.report.verdict_plot import verdict_plot
    from bench.report.verdicts import verdict_table

    tables = [verdict_table(standing, verdicts) for standing, verdicts in made]
    plots = [verdict_plot(verdicts) for _, verdicts in made]
    paths = _write_tables(folder, {"comparison": tables}, command, style)
    return paths + [path for plot in plots for path in _write_plot(folder / "plots", plot, file_bytes(plot))]


def with_distinct_keys(items: Sequence[T]) -> list[T]:
    """Return tables or plots with keys that differ, upper and lower case aside: the keys are names of files."""
    used: set[str] = set()
    distinct = []
    for item in items:
        key, number = item.key, 2
        while key.lower() in used:
            key, number = f"{item.key}-{number}", number + 1
        used.add(key.lower())
        distinct.append(item if key == item.key else replace(item, key=key))
    return distinct


def table_text(
    df: pd.DataFrame,
    plan: Sequence[Mapping[str, Any]],
    examples: Examples | None = None,
    paper: PaperComparison | None = None,
) -> str:
    """Return the main tables as plain text for a terminal, from the same arguments as :func:`write`.

    They are the standings and the results tables, or for an ablation the tables of differences, for tuning those of the
    best settings.
    """
    from bench.report.render import plain_text
    from bench.report.run_entries import join

    entries = join(df, plan, examples)
    special = {"tuning": any(entry.tuning for entry in entries), "differences": any(entry.base for entry in entries)}
    first = [kind for kind, applies in special.items() if applies][:1]
    tables = tables_by_kind(entries, kinds=first) if first else {}
    if not any(tables.values()):
        tables = tables_by_kind(entries, kinds=["standings", "results"])
    tables |= tables_by_kind(entries, paper, ["paper"])
    return "\n".join(plain_text(table) for of_kind in tables.values() for table in of_kind)


def json_tables(
    df: pd.DataFrame,
    plan: Sequence[Mapping[str, Any]],
    examples: Examples | None = None,
    paper: PaperComparison | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Return all tables as plain data by kind: scores, intervals, parameters and costs; arguments as :func:`write`."""
    from bench.report.render import json_value
    from bench.report.run_entries import join

    tables = tables_by_kind(join(df, plan, examples), paper)
    return {kind: [json_value(table) for table in of_kind] for kind, of_kind in tables.items() if of_kind}


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
    path.write_bytes(text.encode("utf-8", errors="backslashreplace"))
    return path


def _write_tables(folder: Path, tables: Mapping[str, Sequence[Table]], command: str, style: str) -> list[Path]:
    """Write one Markdown, LaTeX and JSON file for all tables of a kind, one CSV file for each table, and a document
    that shows all tables."""
    import json

    from bench.report import render
    from bench.report.latex import document, latex

    tables = {kind: of_kind for kind, of_kind in tables.items() if of_kind}
    paths = []
    for kind, of_kind in tables.items():
        content = [render.json_value(table) for table in of_kind]
        paths += [
            _write_text(folder / f"{kind}.md", "\n".join(render.markdown(table, command) for table in of_kind)),
            _write_text(folder / f"{kind}.tex", "\n".join(latex(table, command, style) for table in of_kind)),
            _write_text(folder / f"{kind}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n"),
            *(_write_text(folder / f"{table.key}.csv", render.csv_text(table)) for table in of_kind),
        ]
    return [*paths, _write_text(folder / "tables.tex", document(list(tables), style))] if tables else []


def _write_plot(folder: Path, plot: Plot, files: Mapping[str, bytes]) -> list[Path]:
    """Write the numbers of a plot as CSV, and its figure in each of the formats."""
    from bench.report.escaping import csv_frame

    numbers = _write_text(folder / f"{plot.key}.csv", csv_frame(plot.data))
    pictures = {folder / f"{plot.key}.{suffix}": content for suffix, content in files.items()}
    for path, content in pictures.items():
        path.write_bytes(content)
    return [numbers, *pictures]
