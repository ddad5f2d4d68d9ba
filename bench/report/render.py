"""A table as Markdown, plain text, CSV, JSON or HTML: pure functions of the same frozen table.

Every format but the plain text for terminals carries the run ids behind each row: Markdown as a comment, CSV as its
last column, HTML as the attribute ``data-runs`` of the row and as the title of its head. LaTeX has a module of its own
(:mod:`bench.report.latex`).
"""

import csv
import io
import re
from itertools import groupby
from typing import Any

from bench.report.escaping import (
    csv_field,
    html_text,
    markdown_line,
    markdown_text,
    printable,
)
from bench.report.table import Table, TableRow, Value

FIELDS = ("", "_low", "_high", "_std", "_n", "_examples", "_place", "_marks")  # of a value in CSV files
MADE_BY = "made by: "


def markdown(table: Table, command: str) -> str:
    """Return the table as GitHub Markdown with right-aligned numbers; the spread is a subscript.

    A comment has the command that makes the report again, and the run ids of each row.
    """
    head = ["Method", *(markdown_text(column.title) for column in table.columns)]
    lines = [f"### {markdown_text(table.title)}", "", _md_row(head), _md_row([":--"] + ["--:"] * len(table.columns))]
    for family, rows in rows_by_family(table):
        lines += [_md_row([f"**{markdown_text(family)}**"] + [""] * len(table.columns))] * bool(family)
        lines += [_md_row([_md_label(row), *(_md_value(value, row.reference) for value in row.values)]) for row in rows]
    notes = [f"\n{markdown_line(note)}" for note in table.notes]
    lines += ["", markdown_line(table.caption), *notes, "", *_md_runs(table, command), ""]
    return "\n".join(lines)


def _md_runs(table: Table, command: str) -> list[str]:
    """The lines of a comment with the command and the runs of every row; none of them may end the comment early."""
    runs = [f"{row.label}: {' '.join(row.run_ids)}" for row in table.rows]
    rows = [printable(row) for row in (MADE_BY + command, *runs)]
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
    spread = f"<sub>{value.subscript}</sub>" if value.subscript else ""
    return (f"*{text}*" if reference and not value.failed else text) + spread + value.marks


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
    legend = [name for rank, name in ((1, f"* {table.best}"), (2, "° second best")) if rank in ranks]
    return "\n".join([*lines, *([", ".join(legend)] if legend else []), *map(printable, table.notes), ""])


def _text_row(cells: list[str], widths: list[int]) -> str:
    first, *rest = cells
    return "  ".join(
        [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
    )


def _plain(value: Value) -> str:
    spread = value.subscript if value.spread else f" {value.subscript}" if value.subscript else ""
    text = printable(value.text)
    return f"{text}{spread}{value.marks}{' *°'[value.rank]}" if not value.failed else f"{text} "


def csv_text(table: Table) -> str:
    """Return the unrounded values behind a table as CSV, one row per method.

    Every column of the table becomes as many as FIELDS has entries: the mean (or a code), the ends of the interval, the
    sample standard deviation, the numbers of seeds and of examples, the rank and the marks. The last column,
    ``run_ids``, lists the runs behind the row, separated by spaces. No text is taken for a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["method", *(column.key + suffix for column in table.columns for suffix in FIELDS), "run_ids"]
    writer.writerow(map(csv_field, head))
    for row in table.rows:
        fields = ["" if field is None else field for value in row.values for field in _fields(value)]
        writer.writerow(map(csv_field, [row.label, *fields, " ".join(row.run_ids)]))
    return out.getvalue()


def _fields(value: Value) -> tuple[str | float | None, ...]:
    """What FIELDS says of a value, None for what it does not have."""
    low, high = value.interval or (None, None)
    number = value.text if value.mean is None else value.mean
    return number, low, high, value.std, value.n, value.examples or None, value.rank or None, value.marks or None


def json_value(table: Table) -> dict[str, Any]:
    """Return the table as what JSON can hold, with the numbers of :func:`csv_text` and the text that is printed."""
    names = ["value", *(suffix.removeprefix("_") for suffix in FIELDS[1:])]
    return {
        "key": table.key,
        "title": table.title,
        "caption": table.caption,
        "notes": list(table.notes),
        "columns": [{"key": column.key, "title": column.title, "better": column.better} for column in table.columns],
        "rows": [
            {
                "method": row.label,
                "family": row.family,
                "reference": row.reference,
                "runs": list(row.run_ids),
                "values": {
                    column.key: {"text": value.text, **dict(zip(names, _fields(value), strict=True))}
                    for column, value in zip(table.columns, row.values, strict=True)
                },
            }
            for row in table.rows
        ],
    }


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
        '<figure class="table"><div class="scroll" tabindex="0"><table class="sortable">'
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
    spread = f"<sub>{value.subscript}</sub>" if value.subscript else ""
    sort = "" if value.mean is None else f' data-value="{value.mean!r}"'
    return f"<td{sort}>{number}{spread}{value.marks}</td>"
