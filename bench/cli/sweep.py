"""``sweep``: plan, execute what is not done, report."""

import argparse
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cli.executor import add_executor, choose
from bench.cli.inputs import check_inputs, require_inputs
from bench.cli.options import (
    absolute_methods,
    add_execution,
    add_folders,
    add_grid,
    add_merge,
    add_name,
    add_partial,
    add_predict,
    add_style,
    execution,
    show,
)
from bench.cli.processes import check_executor
from bench.cli.report import write_report
from bench.cli.selection import selected
from bench.errors import UsageError
from bench.states import DEFAULT_RETRY, RETRY_POLICIES, RetryPolicy

EXAMPLES = {
    "sweep": "example: python -m bench sweep --methods vl-pet-large,lora --suites image-text --seeds 1,2,3\n"
    "         python -m bench sweep my_sweep.toml --set steps=200 --dry-run"
}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    add_grid(parser)
    add_name(parser)
    add_execution(parser)
    add_predict(parser)
    add_merge(parser)
    add_folders(parser)
    add_style(parser)
    add_executor(parser)
    parser.add_argument(
        "--retry",
        choices=tuple(RETRY_POLICIES),
        default=DEFAULT_RETRY.name,
        help=f"try a failed run again until it has failed twice alike, or never ({DEFAULT_RETRY.name})",
    )
    parser.add_argument("--retry-failed", action="store_true", help="begin runs anew that failed in earlier sweeps")
    parser.add_argument(
        "--stale",
        choices=("redo", "keep"),
        default="redo",
        help="runs of other data, weights or methods than those that are there now: do them again, the old record is "
        "put aside, or keep them, marked in tables (redo)",
    )
    add_partial(parser)
    parser.add_argument("--dry-run", "-n", action="store_true", help="show the planned runs and write nothing")
    parser.add_argument(
        "--collect",
        action="store_true",
        help="as the last job of a Slurm sweep does: submit again what has died, or else write the report",
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="printed at the end (table)")


def call(arguments: argparse.Namespace, verb: str) -> int:
    return perform(selected(arguments), execution(arguments), arguments)


def perform(
    sweep: Any,
    run_execution: Any,
    arguments: argparse.Namespace,
    after_report: Callable[[Path], None] = lambda folder: None,
) -> int:
    """Execute what is not done of a sweep and report it, or show the plan; return the exit code.

    ``after_report`` is called with the folder of the report whenever that has been written.
    """
    from bench.sweep.execute import require_device
    from bench.sweep.expand import expand
    from bench.sweep.started import keep

    if arguments.collect and arguments.executor != "slurm":
        raise UsageError("--collect belongs to --executor slurm; `python -m bench report` writes a report")
    check_executor(arguments.executor or "inline")
    cells = expand(sweep)
    require_inputs(cells, run_execution)
    submitter = _submitter(sweep, run_execution, arguments) if arguments.executor == "slurm" else None
    if arguments.dry_run:
        return dry_run(cells, arguments, run_execution, submitter)
    if arguments.collect:
        if not _resubmit_lost(cells, submitter):
            _warn_of_stale(cells, arguments, run_execution)
            after_report(write_report(sweep, cells, arguments, announce=True))
        return 0
    work = PendingWork.of(cells, run_execution, arguments)
    if work.todo and not submitter:
        require_device(run_execution)
    check_inputs(work.todo, run_execution, partial=arguments.partial)
    choose(arguments, work.todo, run_execution)
    if not keep(arguments.results, sweep, run_execution.data, arguments.executor, arguments.command):
        message = "belongs to another person, so other verbs do not know this sweep by its name"
        print(f"note: {arguments.results / 'sweeps'} {message}", file=sys.stderr)
    _execute(work, run_execution, arguments, submitter)
    after_report(write_report(sweep, cells, arguments, announce=True))
    lines = problems(cells, arguments.results)
    if lines and not arguments.quiet:
        print("\n".join(["not done:", *lines]), file=sys.stderr)
    return 1 if lines else 0


def _submitter(sweep: Any, run_execution: Any, arguments: argparse.Namespace) -> Any:
    """Return what submits to Slurm; a missing profile or Slurm is an error before anything is planned."""
    from bench.sweep.profile import Profile, profile_names

    if arguments.profile is None:
        raise UsageError(f"--executor slurm: needs --profile: {', '.join(profile_names())}, or a file")
    from bench.sweep import slurm_client
    from bench.sweep.slurm import SlurmSubmitter

    profile = Profile.read(arguments.profile)
    if profile.conf:
        os.environ.setdefault("SLURM_CONF", str(profile.conf))
    if not arguments.dry_run:
        slurm_client.require()
    # The report shows how to make it again, which is the command without the flag of the collecting job.
    arguments.command = arguments.command.removesuffix(" --collect")
    return SlurmSubmitter(
        sweep=sweep.name,
        command=arguments.command,
        results=arguments.results.resolve(),
        profile=profile,
        execution=run_execution,
        retry=_retry(arguments),
        report_arguments=_collect_arguments(arguments, run_execution),
    )


def _retry(arguments: argparse.Namespace) -> RetryPolicy:
    return RETRY_POLICIES[arguments.retry]


def _collect_arguments(arguments: argparse.Namespace, run_execution: Any) -> list[str]:
    """Return the arguments of the job that collects the results: those of this command, absolute paths, --collect.

    The job may start in another folder than this process, if its profile's set-up changes it. Of an option that is
    given twice the last one counts, so the absolute paths are appended.
    """
    from bench.sweep.profile import profile_path

    given = [absolute_methods(word) for word in arguments.argv if word != "--collect"]
    if arguments.spec and Path(arguments.spec).is_file():
        given = [str(Path(word).resolve()) if word == arguments.spec else word for word in given]
    absolute = [
        *("--results", str(arguments.results.resolve())),
        *("--reports", str(arguments.reports.resolve())),
        *("--profile", str(profile_path(arguments.profile).resolve())),
        *(("--recipe", str(Path(arguments.recipe).resolve())) if Path(arguments.recipe or "").is_file() else ()),
        *(word for name, path in run_execution.data.items() for word in ("--data", f"{name}={path}")),
    ]
    if given[-len(absolute) :] == absolute:  # a collecting job submits again
        absolute = []
    return [*given, *absolute, "--collect"]


def _resubmit_lost(cells: list[Any], submitter: Any) -> bool:
    """Submit those runs again whose jobs have died; return whether there were any."""
    from bench.cli.progress import Progress
    from bench.sweep.slurm_monitor import collect

    runs = [cell.run for cell in cells if cell.run]
    return collect(submitter, runs, Progress(len(runs)))


def _warn_of_stale(cells: list[Any], arguments: argparse.Namespace, run_execution: Any) -> None:
    """Name the runs whose data, weights or methods have changed since they were submitted.

    Only who types the sweep again has them done again: where nodes see other files, jobs would do so without end.
    """
    from bench.fingerprints import Expectations
    from bench.sweep.run_state import state

    expected = Expectations(run_execution.data)
    for run in (cell.run for cell in cells if cell.run):
        current = state(arguments.results, run, expected=expected)
        if current.name == "stale":
            effect = "it is marked; the sweep typed again does it again"
            print(f"warning: {run.id} is stale, {effect}: {current.note}", file=sys.stderr)


@dataclass(frozen=True)
class PendingWork:
    """What a sweep has to do: the states of its runs, those that begin anew, and all that are to be executed."""

    cells: int
    runs: Sequence[Any]
    states: Mapping[str, Any]
    anew: Sequence[Any]
    todo: list[Any]
    expected: Any

    @classmethod
    def of(cls, cells: Sequence[Any], run_execution: Any, arguments: argparse.Namespace) -> "PendingWork":
        """Look at the results folder; nothing that a run needs is read but what fingerprints are made of."""
        from bench.fingerprints import Expectations
        from bench.sweep.run_state import state

        retry = _retry(arguments)
        runs = [cell.run for cell in cells if cell.run]
        expected = Expectations(run_execution.data)
        states = {run.id: state(arguments.results, run, expected=expected) for run in runs}
        # Typing a sweep again asks for its cancelled runs, too; failed ones need their flag.
        reopened = ("cancelled", "failed", "parked") if arguments.retry_failed else ("cancelled",)
        redo, left = (("stale",), ()) if arguments.stale == "redo" else ((), ("stale",))
        anew = [run for run in runs if states[run.id].name in (*reopened, *redo)]
        todo = [
            run for run in runs if run in anew or not (states[run.id].name in left or states[run.id].is_settled(retry))
        ]
        return cls(len(cells), runs, states, anew, todo, expected)


def _execute(work: PendingWork, run_execution: Any, arguments: argparse.Namespace, submitter: Any) -> None:
    from bench.cli.progress import Progress
    from bench.sweep.execute import begin_anew, work_through
    from bench.sweep.local_workers import run_in_workers

    retry, todo = _retry(arguments), work.todo
    for run_id, current in work.states.items():
        if current.name == "corrupt":
            print(f"warning: {current.note}; the run is done again", file=sys.stderr)
        if current.name == "stale":
            effect = "done again" if arguments.stale == "redo" else "left as it is"
            print(f"warning: {run_id} is stale, it is {effect}: {current.note}", file=sys.stderr)
    if not arguments.quiet:
        print(_announcement(list(work.states.values()), work.cells, len(todo), retry, arguments), file=sys.stderr)
    if run_execution.predict:
        _name_unpredicted([run for run in work.runs if run not in todo], run_execution.predict, arguments)
    if not todo:
        return
    for run in work.anew:
        try:
            begin_anew(run, arguments.results, work.expected)
        except UsageError as fault:  # another person's
            print(f"warning: {run.id} is left as it is: {fault}", file=sys.stderr)
            todo.remove(run)
    with Progress(len(todo), quiet=arguments.quiet) as progress:
        if arguments.executor == "local":
            run_in_workers(todo, run_execution, arguments.results, jobs=arguments.jobs, report=progress, retry=retry)
        elif submitter:
            _execute_on_slurm(submitter, todo, progress)
        else:
            work_through(todo, run_execution, arguments.results, progress, retry=retry)


def _name_unpredicted(done: list[Any], split: str, arguments: argparse.Namespace) -> None:
    """Say how to predict a split with runs that were done before."""
    from bench.run_dir import RunDir

    for run in done:
        if not RunDir(arguments.results, run.id).predicted(split).is_dir():
            command = shlex.join(["python", "-m", "bench", "predict", run.id, "--split", split])
            print(f"{run.id} was done before; {split} is predicted with: {command}", file=sys.stderr)


def _execute_on_slurm(submitter: Any, todo: list[Any], progress: Any) -> None:
    """Submit runs and watch them; whoever stops watching stops nothing."""
    from bench.events import RunEvent
    from bench.sweep.slurm_monitor import SlurmMonitor

    submissions = submitter.submit(todo)
    for submission in submissions:
        array = next(iter(submission.jobs)).partition("_")[0]
        runs = sum(len(pack) for pack in submission.jobs.values())
        message = f"submitted {runs} runs in {len(submission.jobs)} jobs: array {array}, named {submission.name}"
        progress(RunEvent("note", "", message))
        if submission.report_fault:
            message = f"no report job ({submission.report_fault}); the report is written by whoever looks on"
            progress(RunEvent("note", "", message))
    submitted = sum(len(pack) for submission in submissions for pack in submission.jobs.values())
    if rest := len(todo) - submitted:
        text = f"{rest} runs are queued or being run already, or Slurm takes no more jobs now; looking on"
        progress(RunEvent("note", "", text))
    try:
        for line in SlurmMonitor(submitter, todo, submissions, progress).wait():
            print(f"given up: {line}", file=sys.stderr)
    except KeyboardInterrupt:
        print("the jobs go on in Slurm; `python -m bench watch` shows them, `cancel` stops them", file=sys.stderr)
        raise


def _announcement(
    states: Sequence[Any], cells: int, todo: int, retry: RetryPolicy, arguments: argparse.Namespace
) -> str:
    """Say what a sweep is about to do, and what it leaves alone."""
    count = Counter(current.name for current in states)
    parts = [f"{cells} runs: {todo - count['running']} to do", f"{count['done']} already done"]
    failed = sum(current.name in ("failed", "parked") and current.is_settled(retry) for current in states)
    if failed and not arguments.retry_failed:
        parts.append(f"{failed} failed before (--retry-failed runs them again)")
    if count["running"]:
        parts.append(f"{count['running']} being run by another process")
    if cells > len(states):
        parts.append(f"{cells - len(states)} unsupported")
    if arguments.executor == "local" and todo:
        parts.append(f"in {min(arguments.jobs, todo)} worker processes")
    return ", ".join(parts)


def problems(cells: list[Any], results: Path) -> list[str]:
    """Return a line for every cell that is not done with all its scores, and lines on what mends them."""
    from bench.files import UnreadableFile
    from bench.run_dir import RunDir
    from bench.sweep.run_state import state

    lines, remedies = [], set()
    for cell in cells:
        if cell.run is None:
            lines.append(f"  {cell.run_id}: unsupported: {cell.reason}")
            continue
        run_dir = RunDir(results, cell.run_id)
        try:
            record = run_dir.read()
        except UnreadableFile as fault:
            lines.append(f"  {fault}")
            continue
        if record is None:
            current = state(results, cell.run)
            lines.append(f"  {cell.run_id}: {current.name}{f' ({current.note})' if current.note else ''}")
        elif record.status == "failed":
            message = " ".join(record.error.message.split())[:200] if record.error else ""
            lines.append(f"  {cell.run_id}: failed ({record.cause}): {message}; see {run_dir.path}")
            remedies.add("--retry-failed runs failed ones again")
        else:
            for task, score in record.scores.items():
                if score.status != "done":
                    lines.append(f"  {cell.run_id}: no score for {task} ({score.error})")
                    remedies.add(
                        f"`python -m bench score --all --results {shlex.quote(str(results))}` makes the scores again"
                    )
    return [*lines, *sorted(remedies)]


def dry_run(cells: list[Any], arguments: argparse.Namespace, run_execution: Any, submitter: Any) -> int:
    """Print the plan with its price, and the script that Slurm would get."""
    from bench.cli.pricing import priced, summary

    retry, keep_stale = _retry(arguments), arguments.stale == "keep"
    rows = priced(
        cells, arguments.results, run_execution, retry=retry, retry_failed=arguments.retry_failed, keep_stale=keep_stale
    )
    if arguments.format == "json":
        print(json.dumps(rows, indent=1))
    else:
        columns = ("cell", "run", "state", "trainable", "percent", "note")
        show([{key: row[key] for key in columns} for row in rows], "table")
        print("\n" + "\n".join(summary(rows)))
        todo = [cell.run for cell, row in zip(cells, rows, strict=True) if row["state"] == "to run"]
        if submitter and todo:
            print(f"\n{submitter.script(todo)}")
    return 0
