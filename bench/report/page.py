"""The report as one self-contained HTML file: tables, plots, failures, environment, and the command that made it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bench.report.escaping import html_text
from bench.report.explorer import explorer_data
from bench.report.headline import headlines
from bench.report.latex import latex
from bench.report.render import csv_text, html, markdown
from bench.report.run_entries import RunEntry
from bench.report.run_sections import json_script, run_sections
from bench.report.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from bench.report.figure import Plot

FILES = ("report.css", "report.js")

KINDS = {
    **{"tuning": "Tuning", "standings": "Standing", "differences": "Differences", "results": "Results"},
    "efficiency": "Cost",
    "paper": "Beside the paper",
}


@dataclass(frozen=True)
class PageFacts:
    """What a page tells besides tables and plots.

    Attributes:
        command: the command that makes the report again; ``style`` the venue of its LaTeX tables.
        environment: facts about software and hardware.
        question: what an ablation asks, printed below the heading.
        left_out: what could not be drawn or read, a line each.
        runs: everything about single runs (:func:`bench.report.run_sections.run_sections`).
        sweep_file: the sweep as a TOML or JSON text.
        predictions: the same examples by several methods (:func:`bench.side_by_side.side_by_side`).
    """

    command: str
    style: str = "plain"
    environment: Mapping[str, str] = field(default_factory=dict)
    question: str = ""
    left_out: Sequence[str] = ()
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sweep_file: str = ""
    predictions: Sequence[Mapping[str, Any]] = ()


def page(
    sweep: str,
    entries: Sequence[RunEntry],
    tables: Mapping[str, Sequence[Table]],
    plots: Mapping[Plot, str],
    facts: PageFacts,
    curves: Mapping[str, pd.DataFrame],
) -> str:
    """Return the page as HTML that needs no network and no server.

    Args:
        sweep: the name of the sweep, the page's heading.
        entries: all planned runs.
        tables: the tables by kind, a key of KINDS; kinds without tables get no section.
        plots: the plots with their SVG.
        facts: what the page tells besides.
        curves: training curves by run id.
    """
    scored = sum(not entry.code for entry in entries)
    synthetic = sorted({entry.data or "data" for entry in entries if entry.synthetic})
    banner = f'<p class="banner">{html_text(", ".join(synthetic))}: synthetic data</p>' if synthetic else ""
    subtitle = f"<p>{html_text(' '.join(facts.question.split()))}</p>" if facts.question else ""
    lines = headlines([entry for entry in entries if not entry.base and not entry.tuning])
    headline = "".join(f"<p>{html_text(line)}</p>" for line in lines)
    sections = [
        *((KINDS[kind], "".join(_table(table, facts) for table in of_kind)) for kind, of_kind in tables.items()),
        ("Score and cost", _explorer(entries)),
        ("Plots", "".join(_plot(plot, svg) for plot, svg in plots.items())),
        ("Predictions", _predictions(facts.predictions)),
        ("Left out", "".join(f"<p>{html_text(line)}</p>" for line in facts.left_out)),
        ("Failures", _failures(entries)),
        ("Runs", run_sections(facts.runs, curves)),
        ("Environment", _pairs(facts.environment)),
        ("Make it again", _again(facts)),
    ]
    filled = [(title, content) for title, content in sections if content]
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title, _ in filled)
    body = "".join(
        f'<section aria-labelledby="{_anchor(title)}"><h2 id="{_anchor(title)}">{title}</h2>{content}</section>'
        for title, content in filled
    )
    finished = max((entry.finished for entry in entries if entry.finished), default="")
    date = f" The last run finished on {html_text(finished[:10])}." if finished else ""
    style, script = (files("bench.report").joinpath(name).read_text(encoding="utf-8") for name in FILES)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html_text(sweep)}: vlpet-bench</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>\n<body>'
        f'<header><h1>{html_text(sweep)}</h1>{subtitle}{banner}<div class="headline">{headline}</div>'
        f"<p>{scored} of {len(entries)} planned runs have all their scores.{date}</p></header>"
        f'<nav aria-label="parts of the report">{links}</nav><main>{body}</main>'
        f'<div id="announcement" role="status"></div><script>{script}</script></body></html>\n'
    )


def _table(table: Table, facts: PageFacts) -> str:
    """Return a table with its text in the formats that readers copy."""
    texts = {
        "Markdown": markdown(table, facts.command),
        "LaTeX": latex(table, facts.command, facts.style),
        "CSV": csv_text(table),
    }
    formats = json_script({"key": table.key, "texts": texts})
    figure = html(table).replace("</figure>", f"{formats}</figure>")
    return f"<h3>{html_text(table.title)}</h3>{figure}"


def _explorer(entries: Sequence[RunEntry]) -> str:
    data = explorer_data([entry for entry in entries if not entry.tuning])
    return f'<div id="explorer">{json_script(data)}</div>' if data else ""


def _predictions(tasks: Sequence[Mapping[str, Any]]) -> str:
    note = "<p>A sample of examples, drawn once: half of them are ones on which the methods differ.</p>"
    return f'<div id="predictions-panel">{note}{json_script(list(tasks))}</div>' if tasks else ""


def _again(facts: PageFacts) -> str:
    lines = "\n".join(map(html_text, facts.sweep_file.splitlines()))
    plan = f"<details><summary>The plan</summary><pre>{lines}</pre></details>" if lines else ""
    return f"<pre>{html_text(facts.command)}</pre>{plan}"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _plot(plot: Plot, svg: str) -> str:
    return (
        f'<figure class="plot"><div role="img" aria-label="{html_text(plot.title)}">{inline_svg(svg, plot.key)}</div>'
        f"<figcaption><p>{html_text(plot.alt)}</p></figcaption></figure>"
    )


def inline_svg(svg: str, key: str) -> str:
    """Turn an SVG file's text into an element of a page: no prologue, metadata or namespaces; ``key`` prefixes ids."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)

    def adapted(tag: re.Match[str]) -> str:
        text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", tag.group())
        text = re.sub(r'\bid="', f'id="{key}-', text)
        return re.sub(r'(url\(|href=")#', rf"\1#{key}-", text)

    return re.sub(r"<[^<>]*>", adapted, svg)  # tags only: a label may read like an attribute


def _failures(entries: Sequence[RunEntry]) -> str:
    """List every planned run that lacks a score, with the causes and the tasks concerned."""
    rows = []
    for entry in entries:
        without = [cell for cell in entry.cells if cell.code]
        causes = ", ".join(sorted({cell.code for cell in without}))
        tasks = "all tasks" if len(without) == len(entry.cells) else ", ".join(cell.task for cell in without)
        if without:
            texts = (entry.backbone, entry.suite, str(entry.seed), tasks)
            cells = "".join(f'<td class="text">{html_text(text)}</td>' for text in texts)
            rows.append(
                f'<tr><th scope="row">{html_text(entry.label)}</th>{cells}'
                f'<td class="text cause">{html_text(causes)}</td>'
                f'<td class="text"><code>{html_text(entry.run_id)}</code></td></tr>'
            )
    if not rows:
        return "<p>None: every planned cell has a score.</p>"
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Method", "Backbone", "Suite", "Seed", "Tasks", "Cause", "Run")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _pairs(environment: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html_text(key)}</th><td class="text">{html_text(value)}</td></tr>'
        for key, value in environment.items()
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""
