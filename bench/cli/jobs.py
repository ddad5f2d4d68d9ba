"""``logs``, ``cancel`` and ``retry``: what a person does to runs, by their ids or by a sweep. All of it is files."""

import argparse
import sys
from pathlib import Path
from typing import Any

from bench.cli.options import add_data, add_folders, add_grid, count, data_name, word
from bench.cli.selection import planned, started
from bench.errors import UsageError
from bench.states import NEVER

EXAMPLES = {
    "logs": "example: python -m bench logs vl-pet-large-mini-bart-image-text-s1\n"
    "         python -m bench logs default --lines 5",
    "cancel": "example: python -m bench cancel default --methods lora",
    "retry": "example: python -m bench retry default --failed",
}
LOG_LINES = 100


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    if verb == "logs":
        parser.add_argument(
            "run", type=word, metavar="RUN", help="a sweep that was started, or a run's id, or the beginning of it"
        )
        parser.add_argument(
            "--lines", type=count, default=LOG_LINES, metavar="N", help=f"the last lines of each file ({LOG_LINES})"
        )
    else:
        add_grid(parser)
        parser.add_argument(
            "--run", action="append", type=word, default=[], metavar="RUN", help="only this run, by its id"
        )
    if verb == "cancel":
        parser.set_defaults(spec=None)  # nothing is stopped that nobody named
    if verb == "retry":
        parser.add_argument("--failed", action="store_true", help="the failed and parked runs of the sweep")
    add_data(parser)
    add_folders(parser)


def call(arguments: argparse.Namespace, verb: str) -> int:
    if verb == "logs":
        return _logs(arguments)
    return _cancel(arguments) if verb == "cancel" else _retry(arguments)


def _selected_runs(arguments: argparse.Namespace) -> list[Any]:
    """Return the runs of the sweep, or those of them that --run names."""
    from bench.sweep.expand import expand

    runs = [cell.run for cell in expand(planned(arguments)) if cell.run]
    for prefix in arguments.run:
        if not any(run.id.startswith(prefix) for run in runs):
            raise UsageError(f"--run {prefix}: no run of the sweep {arguments.spec!r} is called so; see status")
    return [run for run in runs if not arguments.run or any(run.id.startswith(prefix) for prefix in arguments.run)]


def _logs(arguments: argparse.Namespace) -> int:
    from bench.run_dir import RunDir
    from bench.sweep.expand import expand
    from bench.sweep.sweep_status import find_run_dir

    data = data_name(arguments.data)
    sweep = started(arguments.results, arguments.run)
    if sweep is None:
        _print_log(find_run_dir(arguments.results, arguments.run, data), arguments.lines)
        return 0
    runs = [cell.run for cell in expand(sweep) if cell.run and data in (None, cell.run.data)]
    begun = [folder for run in runs if (folder := RunDir(arguments.results, run.id)).path.is_dir()]
    for folder in begun:
        print(f"{folder.id}:")
        _print_log(folder, arguments.lines)
        print()
    print(f"{len(begun)} of the {len(runs)} runs of {sweep.name} have begun")
    return 0


def _print_log(run_dir: Any, lines: int) -> None:
    """Print the attempts at a run and the last lines of what they have written."""
    from bench.sweep import attempts

    made = attempts.read(run_dir)
    for attempt in made:
        process = f"{attempt.host}, process {attempt.pid}" + (f", job {attempt.job}" if attempt.job else "")
        ending = f"{attempt.outcome or 'no end'} {attempt.reason}".rstrip()
        print(f"attempt {attempt.number}: {attempt.begun} on {process}: {ending}")
    errors = [Path(attempt.log) for attempt in made if attempt.log]
    outputs = [path.with_suffix(".out") for path in errors]
    for path in dict.fromkeys([run_dir.log, *outputs, *errors]):
        if path.is_file() and path.stat().st_size:
            print(f"\n== {path}")
            print("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]))


def _cancel(arguments: argparse.Namespace) -> int:
    from bench.files import explain_write_errors
    from bench.run_dir import RunDir
    from bench.sweep import slurm_client
    from bench.sweep.run_state import state

    selections = ("spec", "methods", "suites", "tasks", "backbones", "seeds", "run")
    if not any(getattr(arguments, name) for name in selections):
        raise UsageError("cancel: say which: a sweep by its name (`default` is one), --methods A,B or --run RUN")
    arguments.spec = arguments.spec or "default"
    submitted = slurm_client.submitted_jobs(arguments.results)
    cancelled = []
    for run in _selected_runs(arguments):
        current = state(arguments.results, run)
        if current.is_settled(NEVER) or (current.name in ("missing", "interrupted") and run.id not in submitted):
            continue
        run_dir = RunDir(arguments.results, run.id)
        try:
            with explain_write_errors(run_dir.path):
                run_dir.path.mkdir(parents=True, exist_ok=True)
                run_dir.cancelled.touch()
        except UsageError as fault:  # another person's
            print(f"{run.id}: is not cancelled: {fault}", file=sys.stderr)
            continue
        cancelled.append(run.id)
        effect = "stops at its next beat, with a checkpoint" if current.name == "running" else "will not begin"
        print(f"{run.id}: {effect}")
    _cancel_waiting_jobs(arguments.results, {run: submitted[run] for run in cancelled if run in submitted})
    print(f"{len(cancelled)} runs cancelled" if cancelled else "nothing to cancel: no run of it is queued or running")
    return 0


def _cancel_waiting_jobs(results: Path, submitted: dict[str, Any]) -> None:
    """Cancel waiting jobs that have no other run to execute. Jobs that run see the cancelled files themselves."""
    from bench.run_dir import RunDir
    from bench.sweep import slurm_client
    from bench.sweep.run_state import stored_state

    queue = slurm_client.queued_jobs(job.submission for job in submitted.values()) or {}
    waiting = {job.id for job in queue.values() if job.state == "PENDING"}
    for job in submitted.values():
        if not all(stored_state(RunDir(results, run)).is_settled(NEVER) for run in job.submission.jobs[job.id]):
            waiting.discard(job.id)
    for conf in {job.submission.conf for job in submitted.values()}:
        slurm_client.cancel(waiting & {job.id for job in submitted.values() if job.submission.conf == conf}, conf)


def _retry(arguments: argparse.Namespace) -> int:
    from bench.sweep.execute import begin_anew
    from bench.sweep.run_state import state

    if not arguments.failed and not arguments.run:
        raise UsageError("retry: say which: --failed, or --run RUN")
    number = 0
    names = ("failed", "parked", "cancelled") if arguments.run else ("failed", "parked")
    for run in _selected_runs(arguments):
        try:
            if state(arguments.results, run).name in names and begin_anew(run, arguments.results):
                print(f"{run.id}: will be tried again; what failed is kept beside it")
                number += 1
        except UsageError as fault:  # another person's
            print(f"{run.id}: is left as it is: {fault}", file=sys.stderr)
    print(f"{number} runs to try again; the same `sweep` command runs them" if number else "nothing to try again")
    return 0
