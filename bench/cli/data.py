"""``data``: check a data root, or write the miniature one."""

import argparse
import os
import sys
from pathlib import Path

from bench.errors import UsageError

EXAMPLES = {
    "data": "example: python -m bench data check /data/datasets --suite image-text\n"
    "         python -m bench data mini my-mini --seed 3"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("what", choices=("check", "mini"), help="check a root, or write the miniature (synthetic) one")
    parser.add_argument("root", nargs="?", type=Path, help="folder (check: default is the generated miniature one)")
    parser.add_argument("--suite", action="append", help="only this suite")
    parser.add_argument("--seed", type=int, default=0, help="seed of the miniature world (0)")
    parser.add_argument("--n-boxes", type=int, default=36, metavar="N", help="n_boxes of the recipe to check for (36)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    return _mini(arguments) if arguments.what == "mini" else _check(arguments)


def _mini(arguments: argparse.Namespace) -> int:
    """Write the miniature data of the chosen suites, by default those of the built-in ones, which share them."""
    from bench import suites
    from bench.data.roots import generate

    if arguments.root is None:
        raise UsageError("data mini: say which folder to write, for example `python -m bench data mini my-mini`")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: expected a whole number of at least 0")
    if os.path.lexists(arguments.root):
        raise UsageError(f"{arguments.root}: is there already; nothing is overwritten, choose another folder")
    miniatures = dict.fromkeys(suites.get(name).miniature for name in arguments.suite or suites.built_in())
    if len(miniatures) > 1 or None in miniatures:
        raise UsageError("data mini: name one suite that has miniature data, for example --suite image-text")
    for miniature in filter(None, miniatures):
        print(f"wrote {generate(miniature, arguments.root, arguments.seed)} (synthetic)")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Check each suite in the root that was named, or else in its own miniature.

    Of a root that was named, suites of plug-ins are checked only where the root has annotations of theirs, or where
    the suite was named too.
    """
    from bench import suites
    from bench.data.check import check, official_size
    from bench.data.roots import MINI, has_annotations, locate
    from bench.tasks import get
    from bench.tasks.tolerance import REASONS, Tolerance

    root: Path | None = arguments.root
    if root is not None and not os.path.isdir(root):  # a Path would raise where the name is too long
        raise UsageError(f"{root}: no such folder")
    chosen = [suites.get(name) for name in arguments.suite or suites.names()]
    if not arguments.suite and root:
        chosen = [s for s in chosen if s.name in suites.built_in() or has_annotations(root, s)]
    elif not arguments.suite:
        chosen = [s for s in chosen if s.miniature]
    is_faulty = False
    for suite in chosen:
        folder = root or locate(MINI, suite.name, {})
        for report in check(folder, suite.name, n_boxes=arguments.n_boxes, progress=show_progress):
            if report.fault:
                print(f"fault  {report.name}: {report.fault}")
                is_faulty = True
                continue
            official = official_size(folder, report)
            note = f"; the official files have {official:,}" if official is not None else ""
            print(f"ok     {report.name}: {report.examples:,} examples ({get(report.task).splits[report.split]}){note}")
            for kind, number in report.tolerated.items():
                print(f"note   {report.name}: tolerated {number:,} {kind} ({REASONS[Tolerance(kind)]})")
    return 2 if is_faulty else 0


def show_progress(line: str) -> None:
    """Show where the check is, in the last line of a terminal; print nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line:.100}\r", end="", file=sys.stderr, flush=True)
