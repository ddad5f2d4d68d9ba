"""What the built-in ablations say at the miniature's scale: ``python -m benchmarks.ablations``.

It takes the tables of differences from the reports of ``python -m bench ablate NAME``, with the three seeds that stand
in every built-in ablation, and reads them in words: what can be told from the base at 5 %, corrected over the column.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from bench.sweep.spec import ABLATIONS, load, names
from benchmarks.readme_tables import ROOT, replaced, tables

PAGE, MARK = ROOT / "docs" / "ablations.md", "ablations"
DIRECTIONS = {"↑": "higher", "↓": "lower"}


def reading(table: dict[str, Any]) -> str:
    """Return a sentence with what a table of differences (one entry of ``differences.json``) tells from its base."""
    titles = {column["key"]: column["title"] for column in table["columns"] if column["better"]}
    told = []
    for row in table["rows"]:
        if row["reference"]:
            continue
        for direction, word in DIRECTIONS.items():
            where = [title for key, title in titles.items() if direction in (row["values"][key]["marks"] or "")]
            if where:
                told.append(f"`{row['method']}` is {word} on {', '.join(where)}")
    cells = (len(table["rows"]) - 1) * len(titles)
    if not told:
        return f"None of {cells} differences can be told from zero with three seeds.\n"
    return f"Told from the base: {'; '.join(told)}; the other differences cannot be told from zero.\n"


def section(name: str, report: Path) -> str:
    """Return the part of the page that one ablation has: question, command, tables and what they say."""
    text = (report / "differences.md").read_text(encoding="utf-8")
    parts = [f"## {name}\n\n{load(name).question} `python -m bench ablate {name}`\n"]
    for table in json.loads((report / "differences.json").read_text(encoding="utf-8")):
        one = re.search(rf"^### {re.escape(table['title'])}\n\n(?:\|.*\n)+", text, flags=re.MULTILINE)
        if one is None:
            raise ValueError(f"{report}: differences.md has no table {table['title']!r}; make the report again")
        parts += [tables(one[0]), reading(table)]
    return "\n".join(parts)


def main() -> None:
    """Write the sections of those ablations whose report is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="reports folder (reports)")
    reports = parser.parse_args().reports
    there = [name for name in names(ABLATIONS) if (reports / name / "differences.json").is_file()]
    missing = [name for name in names(ABLATIONS) if name not in there]
    sections = [section(name, reports / name) for name in there]
    if missing:
        sections.append(f"## Not run yet\n\nIn this edition of the miniature suite: {', '.join(missing)}.\n")
    page = replaced(PAGE.read_text(encoding="utf-8"), MARK, "\n".join(sections))
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}: {', '.join(there) or 'nothing'}")


if __name__ == "__main__":
    main()
