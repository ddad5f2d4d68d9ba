"""``data``: check a data root, or write the miniature one."""

import argparse
from pathlib import Path

from bench.errors import UsageError

EXAMPLES = {
    "data": "example: python -m bench data check /data/datasets --suite image-text\n"
    "         python -m bench data mini my-mini --seed 3"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    parser.add_argument("what", choices=("check", "mini"), help="check a root, or write the miniature (synthetic) one")
    parser.add_argument("root", nargs="?", type=Path, help="folder (check: default is the generated miniature one)")
    parser.add_argument("--suite", action="append", help="only this suite")
    parser.add_argument("--seed", type=int, default=0, help="seed of the miniature world (0)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Do it."""
    return _mini(arguments) if arguments.what == "mini" else _check(arguments)


def _mini(arguments: argparse.Namespace) -> int:
    from bench.mini.write import ensure

    if arguments.root is None:
        raise UsageError("data mini: say which folder to write, for example `python -m bench data mini my-mini`")
    if arguments.root.exists():
        raise UsageError(f"{arguments.root}: is there already; nothing is overwritten, choose another folder")
    print(f"wrote {ensure(arguments.root, arguments.seed)} (synthetic)")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from bench import tasks
    from bench.data.check import check
    from bench.data.roots import locate

    if arguments.root is not None and not arguments.root.is_dir():
        raise UsageError(f"{arguments.root}: no such folder")
    root = arguments.root or locate("mini", {})
    for suite in arguments.suite or []:
        tasks.suite(suite)
    right, wrong = check(root, arguments.suite or tasks.suites())
    for line in right:
        print(f"ok     {line}")
    for line in wrong:
        print(f"fault  {line}")
    return 2 if wrong else 0
