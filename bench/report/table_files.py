"""Tables read back from the Markdown and LaTeX files of a report, and compared cell by cell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.latex import MADE_BY as LATEX_MADE_BY
from bench.report.latex import STYLE
from bench.report.render import MADE_BY


@dataclass(frozen=True)
class PrintedTable:
    """A table as a file has it.

    Attributes:
        title: what it is called: the key of a LaTeX table, the heading of a Markdown table.
        command: what made it.
        style: that of a LaTeX table, None of a Markdown table.
        columns: the headings, "" for the second part of a column.
        rows: the cells behind the first one, by the first one.
    """

    title: str
    command: str
    style: str | None
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]


def printed_tables(text: str, suffix: str) -> list[PrintedTable]:
    """Return the tables of a file's text that say what made them; others are passed over.

    ``suffix`` is that of the file, ``.md`` or ``.tex``.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return _of_markdown(lines) if suffix == ".md" else _of_latex(lines)


def _of_latex(lines: Sequence[str]) -> list[PrintedTable]:
    tables, command, style, title = [], "", "plain", ""
    cells: list[tuple[str, ...]] = []
    is_inside = False
    for line in lines:
        if line.startswith(LATEX_MADE_BY):
            command = line.removeprefix(LATEX_MADE_BY)
        elif line.startswith(STYLE):
            style = line.removeprefix(STYLE)
        elif match := re.match(r"\\label\{tab:(.*)\}$", line):
            title = match[1]
        elif line.strip() == r"\toprule":
            is_inside, cells = True, []
        elif line.strip() == r"\bottomrule" and command and is_inside and cells:
            is_inside = False
            tables.append(_table(title, command, style, cells))
        elif is_inside and line.rstrip().endswith(r"\\") and not line.startswith(r"\multicolumn"):
            cells.append(tuple(part.strip() for part in re.split(r"(?<!\\)&", line.rstrip()[:-2])))
    return tables


def _of_markdown(lines: Sequence[str]) -> list[PrintedTable]:
    tables, title = [], ""
    cells: list[tuple[str, ...]] = []
    for line in lines:
        if line.startswith("### "):
            title, cells = line[4:], []
        elif line.startswith("|"):
            parts = tuple(part.strip() for part in re.split(r"(?<!\\)\|", line.strip()[1:-1]))
            is_content = not all(re.fullmatch(":?-+:?", part) for part in parts) and any(parts[1:])
            cells += [parts] if is_content or not cells else []
        elif line.startswith(MADE_BY) and cells:
            tables.append(_table(title, line.removeprefix(MADE_BY), None, cells))
            cells = []
    return tables


def _table(title: str, command: str, style: str | None, cells: Sequence[tuple[str, ...]]) -> PrintedTable:
    head, rows = cells[0], cells[1:]
    return PrintedTable(title, command, style, head[1:], {row[0]: row[1:] for row in rows})


def differences(printed: PrintedTable, made: Sequence[PrintedTable]) -> list[str]:
    """Return a line for every cell of a table that is not what it would be now, with what it was and is."""
    now = next((table for table in made if table.title == printed.title), None)
    if now is None:
        return [f"{printed.title}: the records give no such table"]
    lines = []
    for label, row in printed.rows.items():
        if label not in now.rows:
            lines.append(f"{printed.title}: {label}: the records give no such row")
            continue
        for at, (was, is_now) in enumerate(zip(row, now.rows[label], strict=False)):
            if was != is_now:
                column = printed.columns[at] or f"{printed.columns[at - 1]} (spread, marks)"
                lines.append(f"{printed.title}: {label}, {column}: was {was or 'empty'}, is {is_now or 'empty'}")
        if len(row) != len(now.rows[label]):
            lines.append(f"{printed.title}: {label}: has {len(row)} cells, would have {len(now.rows[label])}")
    missing = [label for label in now.rows if label not in printed.rows]
    return lines + [f"{printed.title}: {label}: the row is not in the file" for label in missing]
