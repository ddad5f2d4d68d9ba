"""A table as Markdown, LaTeX, plain text, CSV or HTML: pure functions of the same frozen cells."""

import csv
import io
from dataclasses import replace
from html import escape
from itertools import groupby

from bench.report.table import Table, TableRow, Value

PAGE = 45  # rows of a LaTeX table that fit on a page


def markdown(table: Table) -> str:
    """GitHub Markdown with right-aligned numbers; the spread is a subscript."""
    head = ["Method", *(column.title for column in table.columns)]
    lines = [f"### {table.title}", "", _md_row(head), _md_row([":--"] + ["--:"] * len(table.columns))]
    for family, rows in by_families(table):
        lines += [_md_row([f"**{family}**"] + [""] * len(table.columns))] * bool(family)
        lines += [_md_row([_md_label(row), *(_md_value(value, row.reference) for value in row.values)]) for row in rows]
    lines += ["", table.caption, *(f"\n{note}" for note in table.notes), ""]
    return "\n".join(lines)


def by_families(table: Table) -> list[tuple[str, list[TableRow]]]:
    """The rows under the heads of their families, or all under one empty head where the table has no such heads."""
    if not table.family_heads:
        return [("", list(table.rows))]
    return [(family, list(rows)) for family, rows in groupby(table.rows, key=lambda row: row.family)]


def _md_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md_label(row: TableRow) -> str:
    label = row.label.replace("|", "\\|")
    return f"*{label}*" if row.reference else label


def _md_value(value: Value, reference: bool) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[value.place].format(value.text)
    spread = f"<sub>±{value.spread}</sub>" if value.spread else ""
    return (f"*{text}*" if reference and not value.failed else text) + spread + value.marks


LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "²": "$^2$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "·": r"$\cdot$",
    "−": "$-$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def tex(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> tex("50% of a_b ×")
    '50\\% of a\\_b $\\times$'
    """
    return "".join(LATEX_SPECIAL.get(sign, sign) for sign in text)


ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def latex(table: Table, command: str) -> str:
    r"""A ``table*`` float with booktabs rules, headed by the command and the run ids that it was made from.

    Rows that fill more than a page go on in further floats. Needs ``\usepackage{booktabs,xcolor}``.
    """
    parts = [replace(table, rows=table.rows[at : at + PAGE]) for at in range(0, len(table.rows), PAGE)]
    return "\n".join(_float(part, command, at) for at, part in enumerate(parts))


def _float(table: Table, command: str, part: int) -> str:
    head = ["Method"] + [tex(column.title) + ARROWS[column.better] for column in table.columns]
    spread = [any(row.values[at].spread for row in table.rows) for at in range(len(table.columns))]
    lines = [
        f"% made by: {command}",
        r"% needs: \usepackage{booktabs,xcolor}",
        *(f"% run: {run_id}" for run_id in table.run_ids),
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{tex(table.title + ', continued.' if part else ' '.join([table.caption, *table.notes]))}}}",
        rf"\label{{tab:{table.key}{f'-{part + 1}' if part else ''}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for at, (family, rows) in enumerate(by_families(table)):
        lines += [r"\midrule"] * bool(family and at)
        lines += [rf"\multicolumn{{{len(head)}}}{{l}}{{\textit{{{tex(family)}}}}} \\"] * bool(family)
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            lines.append(" & ".join([_tex_label(row), *_tex_values(row, spread)]) + r" \\")
            if row.reference and after and not after.reference:
                lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _grey(text: str) -> str:
    return rf"\textcolor{{gray}}{{\textit{{{text}}}}}"


def _tex_label(row: TableRow) -> str:
    return _grey(tex(row.label)) if row.reference else tex(row.label)


def _tex_values(row: TableRow, spread: list[bool]) -> list[str]:
    return [_tex_value(value, row.reference, spread[at]) for at, value in enumerate(row.values)]


def _tex_value(value: Value, reference: bool, pad: bool) -> str:
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[value.place].format(tex(value.text))
    if value.spread:
        text += rf"$_{{\pm {value.spread}}}$"
    elif pad and value.mean is not None:  # keeps the points of a column in line
        text += r"\phantom{$_{\pm 0.00}$}"
    text = _grey(text) if reference and not value.failed else text
    return text + tex(value.marks)


def text(table: Table) -> str:
    """Aligned plain text for a terminal: ``*`` marks the best and ``°`` the second best value."""
    head = ["method", *(column.title for column in table.columns)]
    body = [[row.label, *(_plain(value) for value in row.values)] for row in table.rows]
    widths = [max(len(line[at]) for line in [head, *body]) for at in range(len(head))]
    rule = "─" * (sum(widths) + 2 * len(widths) - 2)
    lines = [table.title, rule, _text_row(head, widths), rule]
    rows = iter(body)
    for family, members in by_families(table):
        lines += [f"· {family}"] * bool(family) + [_text_row(next(rows), widths) for _ in members]
    lines.append(rule)
    marks = {value.place for row in table.rows for value in row.values}
    legend = [name for place, name in ((1, "* best"), (2, "° second best")) if place in marks]
    return "\n".join([*lines, *([", ".join(legend)] if legend else []), *table.notes, ""])


def _text_row(cells: list[str], widths: list[int]) -> str:
    first, *rest = cells
    return "  ".join(
        [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
    )


def _plain(value: Value) -> str:
    spread = f"±{value.spread}" if value.spread else ""
    return f"{value.text}{spread}{value.marks}{' *°'[value.place]}" if not value.failed else f"{value.text} "


def csv_text(table: Table) -> str:
    """The unrounded values behind a table: per column its mean (or code), sample std, number of seeds and place; of
    differences the interval's ends and the marks."""
    intervals = any(value.interval for row in table.rows for value in row.values)
    suffixes = ("", "_low", "_high", "_n", "_marks") if intervals else ("", "_std", "_n", "_place")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", *(column.key + suffix for column in table.columns for suffix in suffixes)])
    for row in table.rows:
        writer.writerow([row.label, *(field for value in row.values for field in _csv_fields(value, intervals))])
    return out.getvalue()


def _csv_fields(value: Value, intervals: bool) -> tuple[str | float, ...]:
    shown = value.text if value.mean is None else value.mean
    if intervals:
        return shown, *(value.interval or ("", "")), value.n, value.marks
    return shown, "" if value.std is None else value.std, value.n, value.place or ""


def html(table: Table) -> str:
    """A ``<figure>`` with a sortable table: every cell carries its unrounded value."""
    head = "".join(f'<th scope="col">{escape(column.title)}</th>' for column in table.columns)
    body = "\n".join(
        f'<tr class="family"><th colspan="{len(table.columns) + 1}">{escape(family)}</th></tr>\n' * bool(family)
        + "\n".join(
            f'<tr{" class=reference" if row.reference else ""}><th scope="row">{escape(row.label)}</th>'
            f"{''.join(_html_value(value) for value in row.values)}</tr>"
            for row in rows
        )
        for family, rows in by_families(table)
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return (
        '<figure class="table"><div class="scroll"><table class="sortable">'
        f'<thead><tr><th scope="col">Method</th>{head}'
        f"</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        f"<figcaption><p>{escape(table.caption)}</p>{notes}</figcaption></figure>"
    )


def _html_value(value: Value) -> str:
    if value.failed:
        return f'<td class="failed">{escape(value.text)}</td>'
    shown = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}[value.place].format(escape(value.text))
    spread = f"<sub>±{value.spread}</sub>" if value.spread else ""
    sort = "" if value.mean is None else f' data-value="{value.mean!r}"'
    return f"<td{sort}>{shown}{spread}{value.marks}</td>"
