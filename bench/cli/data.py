"""``data``: check a data root, or write the miniature one."""

import argparse
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


def call(arguments: argparse.Namespace, verb: str) -> int:
    return _mini(arguments) if arguments.what == "mini" else _check(arguments)


def _mini(arguments: argparse.Namespace) -> int:
    """Write the miniature data of the chosen suites, by default those of the built-in ones, which share them."""
    from bench import suites
    from bench.data.roots import generate

    if arguments.root is None:
        raise UsageError("data mini: say which folder to write, for example `python -m bench data mini my-mini`")
    if arguments.root.exists():
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
    from bench.data.check import check
    from bench.data.roots import MINI, has_annotations, locate

    root: Path | None = arguments.root
    if root is not None and not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    chosen = [suites.get(name) for name in arguments.suite or suites.names()]
    if not arguments.suite and root:
        chosen = [s for s in chosen if s.name in suites.built_in() or has_annotations(root, s)]
    elif not arguments.suite:
        chosen = [s for s in chosen if s.miniature]
    is_faulty = False
    for suite in chosen:
        right, wrong = check(root or locate(MINI, suite.name, {}), suite.name)
        for line in right:
            print(f"ok     {line}")
        for line in wrong:
            print(f"fault  {line}")
        is_faulty = is_faulty or bool(wrong)
    return 2 if is_faulty else 0
