"""The tables of reports in notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.report.latex import latex
from bench.report.render import html, markdown, plain_text
from bench.report.table import Table

COMMAND = "bench.table in a notebook"


@dataclass(frozen=True)
class NotebookTable:
    """Tables that a notebook shows as HTML, and a terminal as text."""

    tables: Sequence[Table]

    def _repr_html_(self) -> str:
        return "\n".join(f"<h4>{table.title}</h4>{html(table)}" for table in self.tables)

    def __repr__(self) -> str:
        return "\n".join(map(plain_text, self.tables))

    def to_markdown(self) -> str:
        """Return the tables as GitHub Markdown."""
        return "\n".join(markdown(table, COMMAND) for table in self.tables)

    def to_latex(self, style: str = "plain") -> str:
        """Return the tables as LaTeX floats for a venue of ``bench.report.venues.STYLES``."""
        return "\n".join(latex(table, COMMAND, style) for table in self.tables)


def table(results: pd.DataFrame, kind: str = "results") -> NotebookTable:
    """Return the tables of a kind, one for each backbone and suite.

    Args:
        results: as :func:`bench.load_results` returns them.
        kind: "results", "standings", "differences" (to the leading method) or "efficiency".

    Raises:
        ValueError: there is no such kind, or the results give no table of it.
    """
    from bench.report import tables_by_kind
    from bench.report.run_entries import join

    tables = tables_by_kind(join(results, []))
    kinds = [name for name, of_kind in tables.items() if of_kind]
    if kind not in kinds:
        raise ValueError(f"these results give no table {kind!r}; they give {', '.join(kinds) or 'none'}")
    return NotebookTable(tables[kind])
