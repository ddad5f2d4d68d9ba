"""``rm``: remove runs, or a sweep with the runs that no other sweep has."""

import argparse
import sys
from pathlib import Path
from typing import Any

from bench.cli.options import add_results, word
from bench.errors import UsageError

EXAMPLES = {
    "rm": "example: python -m bench rm lora-mini-bart-image-text-s1\n         python -m bench rm default@2 --yes"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "names",
        nargs="+",
        type=word,
        metavar="NAME",
        help="a sweep that was started, with those of its runs that no other sweep has; or a run's id, or the "
        "beginning of it",
    )
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    add_results(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Remove what was named, after a question; what cannot be removed is named and costs the others nothing."""
    from bench.cli.inventory import size
    from bench.records import require_results
    from bench.sweep.inventory import usage
    from bench.sweep.removal import remove_run

    require_results(arguments.results)
    runs, plans = _named(arguments.results, arguments.names)
    total = sum(usage(run.path).total for run in runs)
    for run in runs:
        print(run.id)
    what = f"{len(runs)} runs, {size(total)}" + "".join(f", the sweep {plan.stem}" for plan in plans)
    if not arguments.yes and not _confirmed(f"remove {what}?"):
        print("nothing is removed")
        return 1
    refused = 0
    for run in runs:
        try:
            remove_run(arguments.results, run)
        except UsageError as fault:
            print(f"{run.id}: is left as it is: {fault}", file=sys.stderr)
            refused += 1
    for plan in plans if not refused else []:
        try:
            plan.unlink()
        except OSError as error:
            print(f"{plan}: is left as it is: {error.strerror or error}", file=sys.stderr)
            refused += 1
    print(f"removed: {len(runs) - refused} of {len(runs)} runs" if refused else f"removed: {what}")
    return 1 if refused else 0


def _named(results: Path, names: list[str]) -> tuple[list[Any], list[Path]]:
    """Return the directories of the runs that are to go, and the files of the plans.

    Raises:
        UsageError: no sweep and no run is called so, or a plan cannot be read.
    """
    from bench.run_dir import RunDir
    from bench.sweep.inventory import planned_sweeps
    from bench.sweep.sweep_status import find_run_dir

    sweeps = planned_sweeps(results)
    chosen = [sweep for sweep in sweeps if sweep.key in names]
    kept = {cell.run_id for sweep in sweeps if sweep not in chosen for cell in sweep.cells if cell.run}
    unclear = [sweep for sweep in sweeps if sweep not in chosen and sweep.fault]
    if chosen and unclear:
        raise UsageError(
            f"{unclear[0].key}: nobody can tell which runs this sweep has ({unclear[0].fault}); rm RUN works"
        )
    runs: dict[str, Any] = {}
    for sweep in chosen:
        if sweep.fault:
            raise UsageError(f"{sweep.key}: nobody can tell which runs this sweep has ({sweep.fault})")
        ids = [cell.run_id for cell in sweep.cells if cell.run]
        shared = [run_id for run_id in ids if run_id in kept]
        if shared:
            print(f"note: {len(shared)} runs of {sweep.key} stay: other sweeps have them, too", file=sys.stderr)
        runs |= {run_id: RunDir(results, run_id) for run_id in ids if run_id not in kept}
    for name in names:
        if name not in [sweep.key for sweep in chosen]:
            run_dir = find_run_dir(results, name)
            runs[run_dir.id] = run_dir
    return [run for run in runs.values() if run.path.exists()], [results / "sweeps" / f"{s.key}.json" for s in chosen]


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("rm: asks before it removes, and nobody is there to answer; --yes removes without a question")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
