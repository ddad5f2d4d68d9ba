"""A table as Markdown, LaTeX, plain text, CSV or HTML: pure functions of the same frozen table.

Every format but the plain text for terminals carries the run ids behind each row: Markdown and LaTeX as comments, CSV
as its last column, HTML as the attribute ``data-runs`` of the row and as the title of its head.
"""

import csv
import io
import re
from dataclasses import replace
from itertools import groupby

from bench.report.escaping import (
    csv_field,
    html_text,
    latex_first_cell,
    latex_text,
    markdown_line,
    markdown_text,
    printable,
)
from bench.report.table import Table, TableRow, Value

PAGE = 45  # rows of a LaTeX table that fit on a page


def markdown(table: Table) -> str:
    """Return the table as GitHub Markdown with right-aligned numbers; the spread is a subscript."""
    head = ["Method", *(markdown_text(column.title) for column in table.columns)]
    lines = [f"### {markdown_text(table.title)}", "", _md_row(head), _md_row([":--"] + ["--:"] * len(table.columns))]
    for family, rows in rows_by_family(table):
        lines += [_md_row([f"**{markdown_text(family)}**"] + [""] * len(table.columns))] * bool(family)
        lines += [_md_row([_md_label(row), *(_md_value(value, row.reference) for value in row.values)]) for row in rows]
    notes = [f"\n{markdown_line(note)}" for note in table.notes]
    lines += ["", markdown_line(table.caption), *notes, "", *_md_runs(table), ""]
    return "\n".join(lines)


def _md_runs(table: Table) -> list[str]:
    """The lines of a comment that lists the runs of every row; no label or id may end the comment early."""
    rows = [printable(f"{row.label}: {' '.join(row.run_ids)}") for row in table.rows]
    rows = [re.sub(r"--(?=!?>)", "-- ", row) for row in rows]
    return ["<!-- runs", *rows, "-->"]


def rows_by_family(table: Table) -> list[tuple[str, list[TableRow]]]:
    """Return the rows under the names of their families, or all under "" where the table has no such heads."""
    if not table.family_heads:
        return [("", list(table.rows))]
    return [(family, list(rows)) for family, rows in groupby(table.rows, key=lambda row: row.family)]


def _md_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md_label(row: TableRow) -> str:
    label = markdown_text(row.label)
    return f"*{label}*" if row.reference else label


def _md_value(value: Value, reference: bool) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[value.rank].format(markdown_text(value.text))
    spread = f"<sub>±{value.spread}</sub>" if value.spread else ""
    return (f"*{text}*" if reference and not value.failed else text) + spread + value.marks


ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def latex(table: Table, command: str) -> str:
    r"""Return the table as a ``table*`` float with booktabs rules, headed by the command and the run ids of each row.

    Rows that fill more than a page go on in further floats. Needs ``\usepackage{booktabs,xcolor}``.
    """
    parts = [replace(table, rows=table.rows[at : at + PAGE]) for at in range(0, len(table.rows), PAGE)]
    return "\n".join(_float(part, command, at) for at, part in enumerate(parts))


def _float(table: Table, command: str, part: int) -> str:
    head = ["Method"] + [latex_text(column.title) + ARROWS[column.better] for column in table.columns]
    with_spread = [any(row.values[at].spread for row in table.rows) for at in range(len(table.columns))]
    caption = table.title + ", continued." if part else " ".join([table.caption, *table.notes])
    lines = [
        f"% made by: {printable(command)}",
        r"% needs: \usepackage{booktabs,xcolor}",
        *(printable(f"% runs of {row.label}: {' '.join(row.run_ids)}") for row in table.rows),
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\label{{tab:{table.key}{f'-{part + 1}' if part else ''}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for at, (family, rows) in enumerate(rows_by_family(table)):
        lines += [r"\midrule"] * bool(family and at)
        lines += [rf"\multicolumn{{{len(head)}}}{{l}}{{\textit{{{latex_text(family)}}}}} \\"] * bool(family)
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            lines.append(" & ".join([_tex_label(row), *_tex_values(row, with_spread)]) + r" \\")
            if row.reference and after and not after.reference:
                lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _grey(text: str) -> str:
    return rf"\textcolor{{gray}}{{\textit{{{text}}}}}"


def _tex_label(row: TableRow) -> str:
    return _grey(latex_text(row.label)) if row.reference else latex_first_cell(latex_text(row.label))


def _tex_values(row: TableRow, with_spread: list[bool]) -> list[str]:
    return [_tex_value(value, row.reference, with_spread[at]) for at, value in enumerate(row.values)]


def _tex_value(value: Value, reference: bool, pad: bool) -> str:
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[value.rank].format(latex_text(value.text))
    if value.spread:
        text += rf"$_{{\pm {value.spread}}}$"
    elif pad and value.mean is not None:  # keeps the decimal points of the column aligned
        text += r"\phantom{$_{\pm 0.00}$}"
    text = _grey(text) if reference and not value.failed else text
    return text + latex_text(value.marks)


def plain_text(table: Table) -> str:
    """Return the table as aligned plain text for a terminal: ``*`` marks the best, ``°`` the second best value."""
    head = ["method", *(column.title for column in table.columns)]
    head = [printable(title) for title in head]
    body = [[printable(row.label), *(_plain(value) for value in row.values)] for row in table.rows]
    widths = [max(len(line[at]) for line in [head, *body]) for at in range(len(head))]
    rule = "─" * (sum(widths) + 2 * len(widths) - 2)
    lines = [printable(table.title), rule, _text_row(head, widths), rule]
    text_rows = iter(body)
    for family, rows in rows_by_family(table):
        lines += [f"· {printable(family)}"] * bool(family) + [_text_row(next(text_rows), widths) for _ in rows]
    lines.append(rule)
    ranks = {value.rank for row in table.rows for value in row.values}
    legend = [name for rank, name in ((1, "* best"), (2, "° second best")) if rank in ranks]
    return "\n".join([*lines, *([", ".join(legend)] if legend else []), *map(printable, table.notes), ""])


def _text_row(cells: list[str], widths: list[int]) -> str:
    first, *rest = cells
    return "  ".join(
        [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
    )


def _plain(value: Value) -> str:
    spread = f"±{value.spread}" if value.spread else ""
    text = printable(value.text)
    return f"{text}{spread}{value.marks}{' *°'[value.rank]}" if not value.failed else f"{text} "


def csv_text(table: Table) -> str:
    """Return the unrounded values behind a table as CSV, one row per method.

    Every column of the table becomes four: mean (or code), sample standard deviation, number of seeds and rank. A table
    of differences has the interval's ends, the numbers of seeds and of examples, and the marks instead. The last
    column, ``run_ids``, lists the runs behind the row, separated by spaces. No text is taken for a formula.
    """
    intervals = any(value.interval or value.examples for row in table.rows for value in row.values)
    suffixes = ("", "_low", "_high", "_n", "_examples", "_marks") if intervals else ("", "_std", "_n", "_place")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["method", *(column.key + suffix for column in table.columns for suffix in suffixes), "run_ids"]
    writer.writerow(map(csv_field, head))
    for row in table.rows:
        fields = [field for value in row.values for field in _csv_fields(value, intervals)]
        writer.writerow(map(csv_field, [row.label, *fields, " ".join(row.run_ids)]))
    return out.getvalue()


def _csv_fields(value: Value, intervals: bool) -> tuple[str | float, ...]:
    number = value.text if value.mean is None else value.mean
    if intervals:
        return number, *(value.interval or ("", "")), value.n, value.examples or "", value.marks
    return number, "" if value.std is None else value.std, value.n, value.rank or ""


def html(table: Table) -> str:
    """Return the table as a ``<figure>`` with a sortable table, whose cells carry their unrounded values."""
    head = "".join(f'<th scope="col">{html_text(column.title)}</th>' for column in table.columns)
    body = "\n".join(
        f'<tr class="family"><th colspan="{len(table.columns) + 1}">{html_text(family)}</th></tr>\n' * bool(family)
        + "\n".join(_html_row(row) for row in rows)
        for family, rows in rows_by_family(table)
    )
    notes = "".join(f"<p>{html_text(note)}</p>" for note in table.notes)
    return (
        '<figure class="table"><div class="scroll"><table class="sortable">'
        f'<thead><tr><th scope="col">Method</th>{head}'
        f"</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        f"<figcaption><p>{html_text(table.caption)}</p>{notes}</figcaption></figure>"
    )


def _html_row(row: TableRow) -> str:
    run_ids = html_text(" ".join(row.run_ids))
    return (
        f'<tr{" class=reference" if row.reference else ""} data-runs="{run_ids}">'
        f'<th scope="row" title="runs: {run_ids}">{html_text(row.label)}</th>'
        f"{''.join(_html_value(value) for value in row.values)}</tr>"
    )


def _html_value(value: Value) -> str:
    if value.failed:
        return f'<td class="failed">{html_text(value.text)}</td>'
    number = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}[value.rank].format(html_text(value.text))
    spread = f"<sub>±{value.spread}</sub>" if value.spread else ""
    sort = "" if value.mean is None else f' data-value="{value.mean!r}"'
    return f"<td{sort}>{number}{spread}{value.marks}</td>"
