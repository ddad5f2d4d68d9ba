"""``work``: what worker processes and jobs of Slurm execute. Internal: sweeps start it, and the overview hides it."""

import argparse
from contextlib import suppress
from pathlib import Path


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--pack", type=Path, required=True, metavar="FILE", help="the runs, as JSON")
    parser.add_argument("--exit-code", type=Path, metavar="FILE", help="where to write the exit code as text")


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Work through the pack. The exit code is written however the work ends, unless the process is killed."""
    from bench.sweep.worker import work

    code = 1
    try:
        code = work(arguments.pack)
    finally:
        if arguments.exit_code:
            with suppress(OSError):
                arguments.exit_code.write_text(str(code), encoding="ascii")
    return code
