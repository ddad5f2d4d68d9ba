"""Options that several verbs share."""

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config import Execution, parse_setting
from bench.errors import UsageError
from bench.sweep.axes import terms


def words(text: str) -> tuple[str, ...]:
    """Parse ``a,b,c``."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str) -> tuple[int, ...]:
    """Parse ``1,2,5`` or ``1..3``."""
    values: list[int] = []
    for part in words(text):
        first, dots, last = part.partition("..")
        try:
            values += range(int(first), int(last) + 1) if dots else [int(part)]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected numbers such as 1,2,3 or 1..3") from None
    return tuple(values)


def add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="results folder (./results)"
    )
    parser.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="DIR", help="reports folder (./reports)"
    )


def add_grid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "spec", nargs="?", default="default", help="a built-in sweep or ablation, or a TOML file (default)"
    )
    parser.add_argument("--methods", type=words, metavar="A,B", help="methods, or all")
    parser.add_argument("--suites", type=words, metavar="A,B", help="suites, such as image-text,video-text")
    parser.add_argument("--tasks", type=words, metavar="A,B", help="tasks of the suites (the official ones)")
    parser.add_argument("--backbone", "--backbones", dest="backbones", type=words, metavar="B", help="backbones")
    parser.add_argument("--seeds", type=numbers, metavar="1,2", help="seeds: 1,2,3 or 1..3")
    add_settings(parser)
    axes = parser.add_argument_group("ablation: differences of cells to their base")
    axes.add_argument(
        "--axis", dest="axes", action="append", default=[], metavar="KEY=V,V", help="values of a field or option"
    )
    axes.add_argument(
        "--zip", dest="steps", action="append", type=words, metavar="A,B", help="axes that advance together"
    )
    axes.add_argument("--drop", type=words, metavar="A,B", help="for each of these parts a cell without it")
    axes.add_argument("--add", type=words, metavar="A,B", help="for each of these parts a cell with it")
    axes.add_argument(
        "--only", action="append", metavar="CELL", help="only bases and these cells: a name, or KEY=V,..."
    )
    axes.add_argument("--except", dest="but", action="append", metavar="CELL", help="without these cells")


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a recipe field or method option",
    )


def add_execution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 (auto)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads of a run (torch's choice)")
    add_data(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the data root of the runs; only what executes runs needs its folder."""
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME[=PATH]", help="data root, and its folder (official layout)"
    )


def execution(arguments: argparse.Namespace) -> Execution:
    """Build the Execution from flags."""
    return Execution(device=arguments.device, threads=arguments.threads, data=parse_roots(arguments.data))


def parse_roots(items: Sequence[str]) -> dict[str, Path]:
    """Parse ``NAME=PATH`` flags into the folders of data roots by name."""
    roots = {}
    for item in items:
        name, sign, path = item.partition("=")
        if not sign:
            raise UsageError(f"--data {item!r}: expected NAME=PATH, for example --data official=/data/datasets")
        roots[name] = Path(path).resolve()
    return roots


def axis(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse an axis: ``rank=24,48``, ``gate=none,small``, or a TOML list such as ``layers=[[0], [0, 1]]``.

    >>> axis("rank=24,48"), axis("gate=none,small"), axis("layers=[[0], [0, 1]]")
    (('rank', (24, 48)), ('gate', ('none', 'small')), ('layers', ([0], [0, 1])))
    """
    key, value = parse_setting(text)
    if isinstance(value, str):
        value = [parse_setting(f"{key}={word}")[1] for word in terms(value)]
    return key, tuple(value) if isinstance(value, list) else (value,)


def selected(arguments: argparse.Namespace) -> Any:
    """Build the Sweep from the spec and flags. New methods replace a built-in sweep's variants too."""
    from bench.sweep import spec

    sweep = spec.load(arguments.spec)
    settings = dict(parse_setting(item) for item in arguments.settings)
    return spec.changed(
        sweep,
        methods=arguments.methods,
        variant=() if arguments.methods else None,
        suites=arguments.suites,
        tasks=arguments.tasks,
        backbones=arguments.backbones,
        seeds=arguments.seeds,
        given=settings,
        axes={**sweep.axes, **dict(map(axis, arguments.axes))},
        steps=arguments.steps,
        drop=arguments.drop,
        add=arguments.add,
        only=arguments.only,
        but=arguments.but,
        data=next((item.partition("=")[0] for item in arguments.data), None) if hasattr(arguments, "data") else None,
    )


def add_format(parser: argparse.ArgumentParser, default: str = "table") -> None:
    parser.add_argument("--format", choices=("table", "json", "csv"), default=default, help=f"output ({default})")


def show(rows: Sequence[Mapping[str, Any]], form: str) -> None:
    """Print rows of equal keys as a table, JSON or CSV."""
    if form == "json":
        print(json.dumps(list(rows), indent=1))
        return
    columns = list(rows[0]) if rows else []
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        print(out.getvalue(), end="")
        return
    cells = [columns] + [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    right = [bool(rows) and all(isinstance(row[c], int | float | None) for row in rows) for c in columns]
    for line in cells:
        padded = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True))
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return "" if value is None else str(value)
