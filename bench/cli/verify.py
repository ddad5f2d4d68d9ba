"""``verify``: whether every cell of a table in a file is what the records give."""

import argparse
import shlex
from importlib import import_module
from typing import Any

from bench.cli.options import path
from bench.errors import UsageError
from bench.files import require_regular_file

EXAMPLES = {"verify": "example: python -m bench verify paper/tables/results.tex --results results"}
VERBS = ("report", "sweep", "ablate", "compare")


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("file", type=path, metavar="FILE", help="a .tex or .md file that has tables of this project")
    parser.add_argument("--results", type=path, metavar="DIR", help="results folder (that of the command in the file)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    from bench.report.table_files import differences, printed_tables

    try:
        require_regular_file(arguments.file)
        text = arguments.file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{arguments.file}: cannot be read ({error.strerror or error})") from None
    printed = printed_tables(text, arguments.file.suffix)
    if not printed:
        wanted = "expected results.tex, results.md or another file of a report, with its comments"
        raise UsageError(f"{arguments.file}: has no table that says what made it; {wanted}")
    lines, cells = [], 0
    for command in dict.fromkeys(table.command for table in printed):
        same = [table for table in printed if table.command == command]
        made = _made_again(command, same[0].style, arguments)
        cells += sum(len(row) for table in same for row in table.rows.values())
        lines += [line for table in same for line in differences(table, made)]
    for line in lines:
        print(line)
    count = f"{cells:,} cells of {len(printed)} tables"
    print(f"{arguments.file}: {count}, {f'{len(lines)} differences' if lines else 'all as the records give them'}")
    return 1 if lines else 0


def _made_again(command: str, style: str | None, options: argparse.Namespace) -> list[Any]:
    """Return the tables that a command makes from the records, as a file has them; nothing else of it is done.

    Raises:
        UsageError: it is none of the commands that make tables, or names a file with code.
    """
    from bench.report import render
    from bench.report.latex import latex
    from bench.report.table_files import printed_tables

    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if words[:3] != ["python", "-m", "bench"] or len(words) < 4 or words[3] not in VERBS:
        raise UsageError(f"{options.file}: was made by {command!r}, which is no command of {', '.join(VERBS)}")
    if code := [word for word in words if ".py" in word]:
        remedy = (
            "no file's command is trusted with code; leave it out of the command, and name it in VLPET_BENCH_METHODS"
        )
        raise UsageError(f"{options.file}: was made with the methods of {code[0]}; {remedy}")
    arguments = _parsed(words[3], words[4:])
    arguments.results = options.results or arguments.results
    tables = _tables(words[3], arguments)
    if style is None:
        return printed_tables("\n".join(render.markdown(table, command) for table in tables), ".md")
    return printed_tables("\n".join(latex(table, command, style) for table in tables), ".tex")


def _parsed(verb: str, words: list[str]) -> argparse.Namespace:
    from bench.cli import VERBS as MODULES
    from bench.cli import Parser, add_verb

    parser = Parser(prog=f"python -m bench {verb}", allow_abbrev=False)
    add_verb(parser, verb, import_module(f"bench.cli.{MODULES[verb][0]}"))
    arguments: argparse.Namespace = parser.parse_all(words)
    return arguments


def _tables(verb: str, arguments: argparse.Namespace) -> list[Any]:
    """Return all tables of the report that a verb writes."""
    from bench.records import require_results
    from bench.report import tables_by_kind
    from bench.report.run_entries import join

    require_results(arguments.results)
    if verb == "compare":
        from bench.cli.compare import compared
        from bench.report.verdicts import verdict_table

        return [verdict_table(standing, verdicts) for standing, verdicts in compared(arguments)[1]]
    from bench.cli.report import collected, with_paper
    from bench.cli.selection import planned
    from bench.sweep.expand import expand

    sweep = planned(arguments)
    records = collected(sweep, expand(sweep), arguments)
    entries = join(records.frame, records.plan, records.examples)
    paper = with_paper(records.frame) if getattr(arguments, "paper", False) else None
    return [table for of_kind in tables_by_kind(entries, paper).values() for table in of_kind]
