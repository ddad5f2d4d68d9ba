"""``sweep``: plan, run what is missing, report."""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bench.cli.options import add_execution, add_folders, add_grid, execution, selected, show
from bench.cli.report import write_report
from bench.errors import UsageError

EXAMPLES = {
    "sweep": "example: python -m bench sweep --methods vl-pet-large,lora --suites image-text --seeds 1,2,3\n"
    "         python -m bench sweep my_sweep.toml --set steps=200 --dry-run"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options."""
    add_grid(parser)
    add_execution(parser)
    add_folders(parser)
    parser.add_argument(
        "--executor",
        choices=("inline", "local", "slurm"),
        default="inline",
        help="this process, workers of this machine, or jobs of a cluster (inline)",
    )
    parser.add_argument("--profile", type=Path, metavar="FILE", help="what a Slurm job asks for: slurm/profiles/*.toml")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="workers of --executor local (2)")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    parser.add_argument("--dry-run", "-n", action="store_true", help="show the planned runs and write nothing")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="what is printed at the end (table)"
    )


def call(arguments: argparse.Namespace, verb: str) -> int:
    """Run the sweep."""
    if arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: expected at least 1")
    return perform(selected(arguments), execution(arguments), arguments)


def perform(sweep: Any, where: Any, arguments: argparse.Namespace) -> int:
    """Run what is missing of a sweep and report it, or show the plan."""
    from bench.sweep.expand import expand

    cells = expand(sweep)
    sender = _sender(sweep, where, arguments) if arguments.executor == "slurm" else None
    if arguments.dry_run:
        return dry_run(cells, arguments, where, sender)
    check_data(cells, where)
    _run(cells, where, arguments, sender)
    write_report(sweep, cells, arguments, announce=True)
    left = problems(cells, arguments.results)
    if left and not arguments.quiet:
        print("\n".join(["not done:", *left]), file=sys.stderr)
    return 1 if left else 0


def check_data(cells: list[Any], where: Any) -> None:
    """Find every data root before anything expensive begins."""
    from bench.data.roots import locate

    for name, suite in dict.fromkeys((cell.run.data, cell.suite) for cell in cells if cell.run):
        locate(name, suite, where.data)


def _sender(sweep: Any, where: Any, arguments: argparse.Namespace) -> Any:
    """Build what submits to Slurm; say what is missing before anything is planned."""
    if arguments.profile is None:
        raise UsageError("--executor slurm: needs --profile FILE; slurm/profiles/ has some to copy")
    from bench.sweep import slurm_client
    from bench.sweep.profile import Profile
    from bench.sweep.slurm import SlurmSubmitter

    profile = Profile.read(arguments.profile)
    if profile.conf:
        os.environ.setdefault("SLURM_CONF", str(profile.conf))
    if not arguments.dry_run:
        slurm_client.require()
    results = arguments.results.resolve()
    return SlurmSubmitter(sweep.name, arguments.command, results, profile, where, Collector(sweep, where, arguments))


class Collector:
    """What the job that depends on a sweep's runs does: submit again what has died, or else write the report."""

    def __init__(self, sweep: Any, where: Any, arguments: argparse.Namespace) -> None:
        self.sweep = sweep
        self.where = where
        self.arguments = arguments

    def __call__(self) -> None:
        """Do it."""
        from bench.sweep import slurm_client
        from bench.sweep.expand import expand
        from bench.sweep.slurm import lost
        from bench.sweep.states import state

        cells = expand(self.sweep)
        sender = _sender(self.sweep, self.where, self.arguments)
        open_ = [cell.run for cell in cells if cell.run and not state(sender.results, cell.run).settled(again=True)]
        if dead := lost(sender.results, open_, slurm_client.places(sender.results)):
            sender.send(dead)
        else:
            write_report(self.sweep, cells, self.arguments, announce=True)


def _run(cells: list[Any], where: Any, arguments: argparse.Namespace, sender: Any) -> None:
    from bench.cli.progress import Progress
    from bench.config import is_mini
    from bench.sweep.execute import try_again, work_through
    from bench.sweep.local_workers import local
    from bench.sweep.states import state

    runs = [cell.run for cell in cells if cell.run]
    states = {run.id: state(arguments.results, run) for run in runs}
    begin_anew = ("cancelled", "failed", "parked") if arguments.retry_failed else ("cancelled",)
    anew = [run for run in runs if states[run.id].name in begin_anew]
    todo = [run for run in runs if run in anew or not states[run.id].settled()]
    for now in states.values():
        if now.name == "corrupt":
            print(f"warning: {now.note}; the run is done again", file=sys.stderr)
    if not arguments.quiet:
        print(_counts([*states.values()], len(cells), len(todo), arguments.retry_failed), file=sys.stderr)
    if not todo:
        return
    for run in anew:
        try_again(run, arguments.results)
    with Progress(len(todo), quiet=arguments.quiet) as progress:
        if arguments.executor == "local":
            if not where.threads and not all(is_mini(run.backbone) for run in todo):  # lanes share the cores
                where = where.model_copy(update={"threads": max(1, (os.cpu_count() or 1) // arguments.jobs)})
            local(todo, where, arguments.results, jobs=arguments.jobs, report=progress)
        elif sender:
            _on_slurm(sender, todo, progress)
        else:
            work_through(todo, where, arguments.results, progress)


def _on_slurm(sender: Any, todo: list[Any], progress: Any) -> None:
    """Submit, and look on; whoever stops looking stops nothing."""
    from bench.events import RunEvent
    from bench.sweep.slurm import SlurmMonitor

    sent = sender.send(todo)
    for one in sent:
        array, runs = next(iter(one.jobs)).partition("_")[0], sum(len(runs) for runs in one.jobs.values())
        progress(
            RunEvent("note", "", f"submitted {runs} runs in {len(one.jobs)} jobs: array {array}, named {one.name}")
        )
    if rest := len(todo) - sum(len(runs) for one in sent for runs in one.jobs.values()):
        progress(RunEvent("note", "", f"{rest} runs are queued or being run already; looking on"))
    try:
        SlurmMonitor(sender, todo, sent, progress).attend()
    except KeyboardInterrupt:
        print("the jobs go on in Slurm; `python -m bench watch` shows them, `cancel` stops them", file=sys.stderr)
        raise


def _counts(states: list[Any], cells: int, todo: int, retry_failed: bool) -> str:
    """Say what a sweep is about to do, and what it leaves alone."""
    count = Counter(now.name for now in states)
    parts = [f"{cells} runs: {todo - count['running']} to do", f"{count['done']} already done"]
    if (failed := count["failed"] + count["parked"]) and not retry_failed:
        parts.append(f"{failed} failed before (--retry-failed runs them again)")
    if count["running"]:
        parts.append(f"{count['running']} being run by another process")
    if cells > len(states):
        parts.append(f"{cells - len(states)} unsupported")
    return ", ".join(parts)


def problems(cells: list[Any], results: Path) -> list[str]:
    """Return a line for every cell that is not done with all its scores, and one on what mends them."""
    from bench.files import CorruptFile
    from bench.run_dir import RunDir
    from bench.sweep.states import state

    lines, mends = [], set()
    for cell in cells:
        if cell.run is None:
            lines.append(f"  {cell.run_id}: unsupported: {cell.reason}")
            continue
        folder = RunDir(results, cell.run_id)
        try:
            record = folder.read()
        except CorruptFile as fault:
            lines.append(f"  {fault}")
            continue
        if record is None:
            lines.append(f"  {cell.run_id}: {state(results, cell.run).name}")
        elif record.status == "failed":
            told = " ".join(record.error.message.split())[:200] if record.error else ""
            lines.append(f"  {cell.run_id}: failed ({record.cause}): {told}; see {folder.path}")
            mends.add("--retry-failed runs failed ones again")
        else:
            for task, score in record.scores.items():
                if score.status != "done":
                    lines.append(f"  {cell.run_id}: no score for {task} ({score.error})")
                    mends.add(f"`python -m bench score --all --results {results}` makes the scores again")
    return [*lines, *sorted(mends)]


def dry_run(cells: list[Any], arguments: argparse.Namespace, where: Any, sender: Any) -> int:
    """Print the plan with its price, and the script that Slurm would get."""
    from bench.cli.pricing import priced, summary

    rows = priced(cells, arguments.results, where, retry_failed=arguments.retry_failed)
    if arguments.format == "json":
        print(json.dumps(rows, indent=1))
    else:
        shown = ("cell", "run", "state", "trainable", "percent", "note")
        show([{key: row[key] for key in shown} for row in rows], "table")
        print("\n" + "\n".join(summary(rows)))
        todo = [cell.run for cell, row in zip(cells, rows, strict=True) if row["state"] == "to run"]
        if sender and todo:
            print(f"\n{sender.script(todo)}")
    return 0
