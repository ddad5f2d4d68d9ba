r"""Tables in LaTeX that fit the venue: into a column where they can, else over the page, and on further pages where
they are too tall.

Widths are estimated from those of Computer Modern, and a table that is wider all the same is scaled down to fit.
Numbers are aligned by siunitx; what it cannot align (bold, underlined or grey numbers, codes) stands in braces, to the
right, which is the same place for numbers with as many decimals. The packages that are needed are PACKAGES.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from bench.report.escaping import latex_first_cell, latex_text, printable
from bench.report.render import rows_by_family
from bench.report.table import Table, TableRow, Value
from bench.report.venues import STYLES, Venue

PACKAGES = "booktabs,graphicx,siunitx,xcolor"
MADE_BY, STYLE = "% made by: ", "% style: "


#: size of letters and distance of lines, in points
FONTS = {
    "10pt": {"normalsize": (10.0, 12.0), "small": (9.0, 11.0), "footnotesize": (8.0, 9.5), "scriptsize": (7.0, 8.0)},
    "11pt": {"normalsize": (10.95, 13.6), "small": (10.0, 12.0), "footnotesize": (9.0, 11.0), "scriptsize": (8.0, 9.5)},
}
COLUMN_GAP = 4.0  # \tabcolsep, in points
FILLED = 0.85  # of a page, by a table with its caption
LABEL_SHARE = 0.4  # of the width, that labels have at most
LONGEST_WORD = 24  # letters, after which a word may be broken
ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}
NUMBER = re.compile(r"[-−+]?(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Layout:
    """How a table is set: the environment of its float, its width in points, and the font."""

    environment: str
    width: float
    font: str
    letter: float
    line: float

    @property
    def label_width(self) -> float:
        """The width that labels have at most, in points."""
        return LABEL_SHARE * self.width


def latex(table: Table, command: str, style: str = "plain") -> str:
    r"""Return the table as floats with booktabs rules, headed by the command, the style and the run ids of each row.

    Args:
        table: what is set.
        command: what makes the report again.
        style: one of STYLES.
    """
    venue = STYLES[style]
    layout = _layout(table, venue)
    parts = _pages(table, venue, layout)
    return "\n".join(_float(part, command, style, layout, at) for at, part in enumerate(parts))


def document(files: Sequence[str], style: str = "plain") -> str:
    """Return a document of its own that shows the tables of files beside it, with the measures of a venue."""
    venue = STYLES[style]
    two = ",twocolumn" if venue.column < venue.text else ""
    return "\n".join(
        [
            rf"\documentclass[{venue.letters}{two}]{{article}}",
            rf"\usepackage[textwidth={venue.text}pt,textheight={venue.height}pt]{{geometry}}",
            rf"\usepackage{{{PACKAGES}}}",
            rf"\setlength{{\columnsep}}{{{venue.text - 2 * venue.column if two else 10.0:.1f}pt}}",
            r"\extrafloats{200}",
            r"\begin{document}",
            *(rf"\input{{{file}}}\clearpage" for file in files),
            r"\end{document}",
            "",
        ]
    )


def _text_width(text: str, letter: float) -> float:
    """Estimate the width of text in points, from the widths of Computer Modern in thousandths of its size."""
    widths = (
        (278, "ijl.,:;'|!"), (389, "ftr()[]-/sI "), (833, "mMwWQO@%&"), (750, "ABCDEFGHKLNPRTUVXYZ"),
    )  # fmt: skip
    total = sum(next((width for width, signs in widths if sign in signs), 528) for sign in text)
    return 1.05 * letter * total / 1000  # smaller sizes are wider in proportion


def _head(title: str) -> list[str]:
    """The lines of the heading of a column."""
    first, _, last = title.rpartition(" ")
    return [first, last] if first and len(title) > 5 else [title]


def _has_notes(table: Table, at: int) -> bool:
    """Whether something stands behind the numbers of a column: a spread, or marks."""
    return any(row.values[at].subscript or row.values[at].marks for row in table.rows)


def _natural_width(table: Table, layout: Layout) -> float:
    """Estimate the width of a table in points."""
    labels = max((_text_width(row.label, layout.letter) for row in table.rows), default=0.0)
    total = min(labels, layout.label_width) + 2 * COLUMN_GAP * (1 + len(table.columns))
    for at, column in enumerate(table.columns):
        title = max(_text_width(line, layout.letter) for line in _head(column.title)) + layout.letter * bool(
            column.better
        )
        number = max((1.15 * _text_width(row.values[at].text, layout.letter) for row in table.rows), default=0.0)
        notes = max(
            (_text_width(row.values[at].subscript, 0.75 * layout.letter)
             + _text_width(row.values[at].marks, layout.letter) for row in table.rows),
            default=0.0,
        )  # fmt: skip
        total += max(title, number + notes)
    return total


def _layout(table: Table, venue: Venue) -> Layout:
    """Return the largest font with which a table fits into a column, or else over the page."""
    fonts = FONTS[venue.letters]
    places = [("table", venue.column)] + [("table*", venue.text)] * (venue.text > venue.column)
    for environment, width in places:
        for font, (letter, line) in fonts.items():
            layout = Layout(environment, width, font, letter, line)
            is_legible = font != "scriptsize" or environment == places[-1][0]
            if is_legible and _natural_width(table, layout) <= width:
                return layout
    return layout


def _caption(table: Table, part: int) -> str:
    return table.title + ", continued." if part else " ".join([table.caption, *table.notes])


def _pages(table: Table, venue: Venue, layout: Layout) -> Iterator[Table]:
    """Split the rows of a table so that each part fits on a page with its caption."""
    letter, line = FONTS[venue.letters]["normalsize"]
    rows: list[TableRow] = []
    part, height = 0, 0.0
    for row in table.rows:
        lines = ceil(1.1 * _text_width(row.label, layout.letter) / layout.label_width)
        is_head = table.family_heads and (not rows or rows[-1].family != row.family)
        needed = layout.line * (max(1, lines) + 1.5 * is_head)
        caption = line * (1 + ceil(1.1 * _text_width(_caption(table, part), letter) / layout.width))
        if rows and height + needed + caption + 6 * layout.line > FILLED * venue.height:
            yield replace(table, rows=tuple(rows))
            rows, part, height = [], part + 1, 0.0
        rows.append(row)
        height += needed
    yield replace(table, rows=tuple(rows))


def _float(table: Table, command: str, style: str, layout: Layout, part: int) -> str:
    notes = [_has_notes(table, at) for at in range(len(table.columns))]
    heads = [
        _tex_head(column.title, column.better) + " & " * noted
        for column, noted in zip(table.columns, notes, strict=True)
    ]
    columns = "".join(_tex_column(table, at, noted) for at, noted in enumerate(notes))
    count = 1 + len(notes) + sum(notes)
    lines = [
        MADE_BY + printable(command),
        STYLE + style,
        rf"% needs: \usepackage{{{PACKAGES}}}",
        *(printable(f"% runs of {row.label}: {' '.join(row.run_ids)}") for row in table.rows),
        rf"\begin{{{layout.environment}}}[t]",
        rf"\centering\{layout.font}",
        rf"\setlength{{\tabcolsep}}{{{COLUMN_GAP}pt}}",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption[{{{_breakable(table.title)}}}]{{\sloppy {_breakable(_caption(table, part))}}}",
        rf"\label{{tab:{table.key}{f'-{part + 1}' if part else ''}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{\begin{tabular}{l" + columns + "}",
        r"\toprule",
        " & ".join(["Method", *heads]) + r" \\",
        r"\midrule",
    ]
    for at, (family, rows) in enumerate(rows_by_family(table)):
        lines += [r"\midrule"] * bool(family and at)
        lines += [rf"\multicolumn{{{count}}}{{l}}{{\textit{{{latex_text(family)}}}}} \\"] * bool(family)
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            cells = [
                cell
                for value, noted in zip(row.values, notes, strict=True)
                for cell in _tex_cells(value, row.reference, noted)
            ]
            lines.append(" & ".join([_tex_label(row, layout), *cells]) + r" \\")
            if row.reference and after and not after.reference:
                lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", rf"\end{{{layout.environment}}}", ""])


def _breakable(text: str) -> str:
    """Escape text whose long words may be broken anywhere."""
    words = text.split(" ")
    pieces = [
        [word[at : at + 8] for at in range(0, len(word), 8)] if len(word) > LONGEST_WORD else [word] for word in words
    ]
    return " ".join(r"\allowbreak{}".join(map(latex_text, of_word)) for of_word in pieces)


def _tex_column(table: Table, at: int, noted: bool) -> str:
    """The specification of a column of numbers, and of the one behind it for spreads and marks."""
    matches = [NUMBER.fullmatch(row.values[at].text) for row in table.rows]
    digits = max((len(match[1]) for match in matches if match), default=1)
    decimals = max((len(match[2] or "") for match in matches if match), default=0)
    sign = "-" if any(match and match[0][0] in "-−+" for match in matches) else ""
    return f"S[table-format={sign}{digits}.{decimals},table-text-alignment=right]" + r"@{\,}l" * noted


def _tex_head(title: str, better: int) -> str:
    lines = [latex_text(line) for line in _head(title)]
    lines[-1] += ARROWS[better]
    return "{" + (lines[0] if len(lines) == 1 else rf"\shortstack{{{lines[0]}\\{lines[1]}}}") + "}"


def _grey(text: str) -> str:
    return rf"\textcolor{{gray}}{{\textit{{{text}}}}}"


def _tex_label(row: TableRow, layout: Layout) -> str:
    text = _grey(_breakable(row.label)) if row.reference else latex_first_cell(_breakable(row.label))
    if _text_width(row.label, layout.letter) <= layout.label_width:
        return text
    return rf"\parbox[t]{{{layout.label_width:.0f}pt}}{{\raggedright\strut {text}\strut}}"


def _tex_cells(value: Value, reference: bool, noted: bool) -> list[str]:
    """The cell of a value, and the one with its spread and marks where its column has any."""
    spread = ""
    if value.subscript:
        spread = f"$_{{{value.subscript.replace('±', chr(92) + 'pm ').replace('−', '-')}}}$"
    behind = [spread + latex_text(value.marks)] * noted
    if NUMBER.fullmatch(value.text) and not value.rank and not reference:
        return [value.text.replace("−", "-"), *behind]
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[value.rank].format(latex_text(value.text))
    return [f"{{{_grey(text) if reference and not value.failed else text}}}", *behind]
