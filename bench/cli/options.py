"""Options that several verbs share."""

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config import MINI, Execution, parse_setting
from bench.errors import UsageError
from bench.report.venues import STYLES
from bench.sweep.axes import terms
from bench.sweep.spec import MAX_CELLS, check_file_name
from bench.toml_files import expand_home, shortened

MAX_SEEDS = 100_000  # of a list or range; a plan of as many trainings is nobody's
MAX_SECONDS = 86_400


def word(text: str) -> str:
    """Parse a name, which is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; leave the flag out, or name something")
    return text


def words(text: str) -> tuple[str, ...]:
    """Parse ``a,b,c``."""
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r}: expected names such as a,b; leave the flag out for none")
    return names


def method_names(text: str) -> tuple[str, ...]:
    """Parse ``a,b,./my_method.py``: a file is imported, and stands for the methods that it registers."""
    from methods.core.errors import MethodError
    from methods.core.registry import add_file

    names: list[str] = []
    for name in words(text):
        try:
            names += add_file(str(expand_home(name))) if name.endswith(".py") else [name]
        except (MethodError, UsageError) as fault:
            raise argparse.ArgumentTypeError(str(fault)) from None
    return tuple(dict.fromkeys(names))


def absolute_methods(text: str) -> str:
    """Return ``a,b,./my_method.py`` with the absolute paths of its files."""
    return ",".join(str(Path(n).resolve()) if n.endswith(".py") and Path(n).is_file() else n for n in text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    """Parse ``1,2,5`` or ``1..3``."""
    values: list[int] = []
    for part in words(text):
        first, dots, last = part.partition("..")
        try:
            span = range(int(first), int(last) + 1) if dots else [int(part)]
        except ValueError:
            span = []
        if not span:
            raise argparse.ArgumentTypeError(f"{shortened(repr(text))}: expected numbers such as 1,2,3 or 1..3")
        if span[-1] - span[0] >= MAX_SEEDS or len(values) >= MAX_SEEDS:
            raise argparse.ArgumentTypeError(f"{shortened(repr(text))}: at most {MAX_SEEDS:,} numbers")
        values += span
    return tuple(values)


def count(text: str) -> int:
    """Parse a number of things, which is at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{shortened(repr(text))}: expected a number of at least 1")
    return number


def seconds(text: str) -> float:
    """Parse a time between 0.1 s and a day."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{shortened(repr(text))}: expected seconds, from 0.1 to {MAX_SECONDS}")
    return number


def path(text: str) -> Path:
    """Parse a path, which is not empty; ``~`` at its beginning is the home directory, which no shell expands after
    ``=``."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a path")
    try:
        return expand_home(text)
    except UsageError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=path, default=Path("results"), metavar="DIR", help="results folder (./results)"
    )


def add_folders(parser: argparse.ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument(
        "--reports", type=path, default=Path("reports"), metavar="DIR", help="reports folder (./reports)"
    )


def add_style(parser: argparse.ArgumentParser) -> None:
    """Add the option for the widths of LaTeX tables."""
    parser.add_argument(
        "--style", choices=tuple(STYLES), default="plain", help="the venue whose page LaTeX tables fit (plain)"
    )


def add_grid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "spec", nargs="?", default="default", help="a built-in sweep or ablation, or a TOML file (default)"
    )
    parser.add_argument(
        "--methods", type=method_names, metavar="A,B", help="methods, or all; my_method.py is what the file registers"
    )
    parser.add_argument("--suites", type=words, metavar="A,B", help="suites, such as image-text,video-text")
    parser.add_argument("--tasks", type=words, metavar="A,B", help="tasks of the suites (the official ones)")
    parser.add_argument("--backbone", "--backbones", dest="backbones", type=words, metavar="B", help="backbones")
    parser.add_argument("--seeds", type=numbers, metavar="1,2", help="seeds: 1,2,3 or 1..3")
    add_recipe(parser)
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
        "--only", action="append", type=word, metavar="CELL", help="only bases and these cells: a name, or KEY=V,..."
    )
    axes.add_argument("--except", dest="but", action="append", type=word, metavar="CELL", help="without these cells")
    parser.add_argument(
        "--max-cells", type=count, metavar="N", help=f"the most cells that the plan may have ({MAX_CELLS:,})"
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=word, help="recipe: paper, fair, mini, or a TOML file (the backbone's)")


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a sweep otherwise than its file does."""
    parser.add_argument(
        "--name", type=_sweep_name, metavar="NAME", help="what the sweep and its report are called (its file's name)"
    )


def _sweep_name(text: str) -> str:
    try:
        return check_file_name(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None


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
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (miniature: 1, else torch's)")
    parser.add_argument(
        "--micro-batch",
        type=count,
        metavar="N",
        help="at most so many examples at once in training: less memory and padding, the same batch and result up to "
        "rounding and dropout's random numbers (the batch)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the backbone's layers with torch.compile: the same result up to rounding, a minute or more "
        "before the first update",
    )
    add_data(parser)


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the option for a further split that every run predicts."""
    parser.add_argument(
        "--predict",
        type=word,
        metavar="SPLIT",
        help="predict this split, too, after training, without scores: test, test-dev, ... (see predict)",
    )


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Add the option for evaluation without the method's own modules."""
    parser.add_argument(
        "--merge",
        action="store_true",
        help="evaluate with the method folded into the backbone's weights, where that can be done (records say so)",
    )


def add_partial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--partial",
        action="store_true",
        help="the data called official may lack published examples; such runs are marked in tables and never compared "
        "with the paper",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the data root of the runs; only what executes runs needs its folder."""
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME[=PATH]", help="data root, and its folder (official layout)"
    )


def execution(arguments: argparse.Namespace) -> Execution:
    """Build the Execution from flags; the folders of a plan that was started (``arguments.roots``) are in it, too."""
    roots = getattr(arguments, "roots", {}) | parse_roots(arguments.data)
    return Execution(
        device=arguments.device,
        threads=arguments.threads,
        micro_batch=arguments.micro_batch,
        merge=getattr(arguments, "merge", False),
        compile=arguments.compile,
        data=roots,
        predict=getattr(arguments, "predict", None),
    )


def parse_roots(items: Sequence[str]) -> dict[str, Path]:
    """Parse ``NAME=PATH`` flags into the folders of data roots by name; ``mini`` alone is the one that is generated."""
    roots = {}
    for item in items:
        if item == MINI:
            continue
        name, _, folder = item.partition("=")
        if not folder.strip() or "\0" in folder:
            wanted = "expected NAME=PATH, for example --data official=/data/datasets"
            raise UsageError(f"--data {shortened(repr(item))}: {wanted}")
        try:
            roots[data_name([item]) or name] = root = expand_home(folder).resolve()
            root.exists()  # raises where no folder can be called so
        except (OSError, RuntimeError) as error:
            raise UsageError(f"--data {shortened(item)}: no such folder ({shortened(error)})") from None
    return roots


def data_name(items: Sequence[str]) -> str | None:
    """Return the name of the data root of the runs, which the first of the ``NAME[=PATH]`` flags has; None without."""
    for item in items:
        try:
            return check_file_name(item.partition("=")[0])
        except ValueError as fault:
            raise UsageError(f"--data {shortened(repr(item))}: {fault}") from None
    return None


def axis(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse an axis: ``rank=24,48``, ``gate=none,small``, or a TOML list such as ``layers=[[0], [0, 1]]``.

    >>> axis("rank=24,48"), axis("gate=none,small"), axis("layers=[[0], [0, 1]]")
    (('rank', (24, 48)), ('gate', ('none', 'small')), ('layers', ([0], [0, 1])))
    """
    key, value = parse_setting(text, "--axis")
    if isinstance(value, str):
        parts = terms(value)
        if not all(parts):
            raise UsageError(f"--axis {key}: {shortened(repr(value))} has an empty value; write {key}=V,V")
        value = [parse_setting(f"{key}={part}", "--axis")[1] for part in parts]
    return key, tuple(value) if isinstance(value, list) else (value,)


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


def given_roots(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return the folders of ``--data NAME=PATH``; a plain ``NAME`` says which root the runs are on, not where."""
    return parse_roots([item for item in getattr(arguments, "data", []) if "=" in item])
