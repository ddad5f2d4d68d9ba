"""The report as one self-contained HTML file: tables, plots, failures, environment, and the command that made it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from bench.report.escaping import html_text
from bench.report.render import html
from bench.report.run_entries import RunEntry
from bench.report.table import Table

if TYPE_CHECKING:
    from bench.report.figure import Plot

SORT = """
for (const head of document.querySelectorAll('table.sortable thead th')) head.addEventListener('click', () => {
  const heads = [...head.parentNode.children], at = heads.indexOf(head), body = head.closest('table').tBodies[0];
  const first = at ? 'descending' : 'ascending', second = at ? 'ascending' : 'descending';
  const order = head.getAttribute('aria-sort') === first ? second : first, sign = order === 'ascending' ? 1 : -1;
  heads.forEach(other => other.removeAttribute('aria-sort'));
  body.querySelectorAll('tr.family').forEach(row => row.remove());  // a sorted table has no families
  head.setAttribute('aria-sort', order);
  const name = row => row.children[0].innerText, value = row => row.children[at].dataset.value;
  const none = row => value(row) === undefined;
  const numbers = (a, b) => none(a) || none(b) ? none(a) - none(b) : sign * (value(a) - value(b));
  const names = (a, b) => sign * name(a).localeCompare(name(b));
  body.append(...[...body.rows].sort(at ? numbers : names));
});
"""


KINDS = {
    **{"tuning": "Tuning", "standings": "Standing", "differences": "Differences", "results": "Results"},
    "efficiency": "Cost",
    "paper": "Beside the paper",
}


def page(
    sweep: str,
    entries: Sequence[RunEntry],
    tables: Mapping[str, Sequence[Table]],
    plots: Mapping[Plot, str],
    *,
    command: str,
    environment: Mapping[str, str],
    question: str = "",
    left_out: Sequence[str] = (),
) -> str:
    """Return the page as HTML that needs no network and no server.

    Args:
        sweep: the name of the sweep, the page's heading.
        entries: all planned runs.
        tables: the tables by kind, a key of KINDS; kinds without tables get no section.
        plots: the plots with their SVG.
        command: the command that makes the report again.
        environment: facts about software and hardware.
        question: what an ablation asks, printed below the heading.
        left_out: what could not be drawn or read, a line each.
    """
    scored = sum(not entry.code for entry in entries)
    synthetic = sorted({entry.data or "data" for entry in entries if entry.synthetic})
    banner = f'<p class="banner">{html_text(", ".join(synthetic))}: synthetic data</p>' if synthetic else ""
    subtitle = f"<p>{html_text(' '.join(question.split()))}</p>" if question else ""
    style = files("bench.report").joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        *(
            (KINDS[kind], "".join(f"<h3>{html_text(t.title)}</h3>{html(t)}" for t in of_kind))
            for kind, of_kind in tables.items()
        ),
        ("Plots", "".join(_plot(plot, svg) for plot, svg in plots.items())),
        ("Left out", "".join(f"<p>{html_text(line)}</p>" for line in left_out)),
        ("Failures", _failures(entries)),
        ("Environment", _pairs(environment)),
        ("Make it again", f"<pre>{html_text(command)}</pre>"),
    ]
    filled = [(title, content) for title, content in sections if content]
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title, _ in filled)
    body = "".join(f'<h2 id="{_anchor(title)}">{title}</h2>{content}' for title, content in filled)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html_text(sweep)}: vlpet-bench</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>\n<body>'
        f"<h1>{html_text(sweep)}</h1>{subtitle}{banner}"
        f"<p>{scored} of {len(entries)} planned runs have all their scores.</p>"
        f"<nav>{links}</nav>{body}<script>{SORT}</script></body></html>\n"
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _plot(plot: Plot, svg: str) -> str:
    return (
        f'<figure class="plot" role="img" aria-label="{html_text(plot.title)}">{inline_svg(svg, plot.key)}'
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
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _pairs(environment: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html_text(key)}</th><td class="text">{html_text(value)}</td></tr>'
        for key, value in environment.items()
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""
