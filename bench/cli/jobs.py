"""``logs``, ``cancel`` and ``retry``: what a person does to runs, by their ids or by a sweep. All of it is files."""

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import add_folders, add_grid, selected
from bench.errors import UsageError

EXAMPLES = {
    "logs": "example: python -m bench logs vl-pet-large-mini-bart-image-text-s1",
    "cancel": "example: python -m bench cancel default --methods lora",
    "retry": "example: python -m bench retry default --failed",
}
TAIL = 100  # lines of an output


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    if verb == "logs":
        parser.add_argument("run", metavar="RUN", help="a run's id, or the beginning of it")
        parser.add_argument(
            "--lines", type=int, default=TAIL, metavar="N", help=f"the last lines of each file ({TAIL})"
        )
    else:
        add_grid(parser)
        parser.add_argument("--run", action="append", default=[], metavar="RUN", help="only this run, by its id")
    if verb == "cancel":
        parser.set_defaults(spec=None)  # nothing is stopped that nobody named
    if verb == "retry":
        parser.add_argument("--failed", action="store_true", help="the failed and parked runs of the sweep")
    add_folders(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Do it."""
    if verb == "logs":
        return _logs(arguments)
    return _cancel(arguments) if verb == "cancel" else _retry(arguments)


def _runs(arguments: argparse.Namespace) -> list[Any]:
    """Return the runs of the sweep, or those of them that were named."""
    from bench.sweep.expand import expand

    runs = [cell.run for cell in expand(selected(arguments)) if cell.run]
    for wanted in arguments.run:
        if not any(run.id.startswith(wanted) for run in runs):
            raise UsageError(f"--run {wanted}: no run of the sweep {arguments.spec!r} is called so; see status")
    return [run for run in runs if not arguments.run or any(run.id.startswith(wanted) for wanted in arguments.run)]


def _logs(arguments: argparse.Namespace) -> int:
    from bench.sweep import attempts
    from bench.sweep.sweep_status import named

    folder = named(arguments.results, arguments.run)
    tried = attempts.read(folder)
    for one in tried:
        where = f"{one.host}, process {one.pid}" + (f", job {one.job}" if one.job else "")
        print(f"attempt {one.number}: {one.begun} on {where}: {one.outcome or 'no end'} {one.reason}".rstrip())
    errors = [Path(one.log) for one in tried if one.log]
    outputs = [path.with_suffix(".out") for path in errors]
    for path in dict.fromkeys([folder.log, *outputs, *errors]):
        if path.exists() and path.stat().st_size:
            print(f"\n== {path}")
            print("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-arguments.lines :]))
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    from bench.files import explain_write_errors
    from bench.run_dir import RunDir
    from bench.sweep import slurm_client
    from bench.sweep.states import state

    named = ("spec", "methods", "suites", "tasks", "backbones", "seeds", "run")
    if not any(getattr(arguments, name) for name in named):
        raise UsageError("cancel: say which: a sweep by its name (`default` is one), --methods A,B or --run RUN")
    arguments.spec = arguments.spec or "default"
    known = slurm_client.places(arguments.results)
    stopped = []
    for run in _runs(arguments):
        now = state(arguments.results, run)
        if now.settled() or (now.name in ("missing", "interrupted") and run.id not in known):
            continue
        folder = RunDir(arguments.results, run.id)
        with explain_write_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.cancelled.touch()
        stopped.append(run.id)
        how = "stops at its next beat, with a checkpoint" if now.name == "running" else "will not begin"
        print(f"{run.id}: {how}")
    _unqueue(arguments.results, {run: known[run] for run in stopped if run in known})
    print(f"{len(stopped)} runs cancelled" if stopped else "nothing to cancel: no run of it is queued or running")
    return 0


def _unqueue(results: Path, placed: dict[str, Any]) -> None:
    """Take jobs that wait out of Slurm's queue if they have no other run; those that run see the marks themselves."""
    from bench.run_dir import RunDir
    from bench.sweep import slurm_client
    from bench.sweep.states import outcome

    waiting = {
        job.id
        for job in (slurm_client.queued(place.submission for place in placed.values()) or {}).values()
        if job.state == "PENDING"
    }
    for place in placed.values():
        others = place.submission.jobs[place.job]
        if not all(outcome(RunDir(results, run)).settled() for run in others):
            waiting.discard(place.job)
    for conf in {place.submission.conf for place in placed.values()}:
        slurm_client.cancel(waiting & {place.job for place in placed.values() if place.submission.conf == conf}, conf)


def _retry(arguments: argparse.Namespace) -> int:
    from bench.sweep.execute import try_again
    from bench.sweep.states import state

    if not arguments.failed and not arguments.run:
        raise UsageError("retry: say which: --failed, or --run RUN")
    number = 0
    names = ("failed", "parked", "cancelled") if arguments.run else ("failed", "parked")
    for run in _runs(arguments):
        if state(arguments.results, run).name in names and try_again(run, arguments.results):
            print(f"{run.id}: will be tried again; what failed is kept beside it")
            number += 1
    print(f"{number} runs to try again; the same `sweep` command runs them" if number else "nothing to try again")
    return 0
