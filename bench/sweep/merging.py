"""Copying the runs and plans of one results folder to another, such as those of two machines."""

import os
import shutil
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import UsageError
from bench.files import explain_write_errors, one_line, read_bytes
from bench.records import run_names
from bench.run_dir import RunDir
from bench.sweep.claims import ClaimObserver
from bench.sweep.leftovers import MERGED
from bench.sweep.run_state import directory_state
from bench.sweep.started import keep, started_names, started_sweeps

LEFT = {"claim", "progress.json"}  # of a run directory: they are about processes of the machine that it is from

Outcome = Literal["copied", "same", "conflict", "left out"]


@dataclass(frozen=True)
class MergedRun:
    """What became of a run of another results folder, and why."""

    run: str
    source: Path
    outcome: Outcome
    note: str = ""


def merge(results: Path, source: Path) -> list[MergedRun]:
    """Copy what is new of the runs and plans of a results folder; nothing that is there is changed.

    A run that is in both is the same where the records are equal. Else it is a conflict, and stays as it is. A run
    that somebody works on there, or that cannot be read, is left out.

    Raises:
        UsageError: the source has no runs, is the same folder, or this one cannot be written.
    """
    names = run_names(source)
    if not names:
        raise UsageError(f"{source}: has no runs; name a results folder, in which there is `runs`")
    if os.path.realpath(source) == os.path.realpath(results):
        raise UsageError(f"{source}: is the folder that is merged into")
    observer = ClaimObserver()
    with explain_write_errors(results / "runs"):
        (results / "runs").mkdir(parents=True, exist_ok=True)
    merged = [_merged(results, source, name, observer) for name in names]
    for name in started_names(source):
        try:
            for plan in started_sweeps(source, name):
                keep(results, plan.sweep, plan.roots, plan.executor, plan.command, started=plan.started)
        except UsageError as fault:
            merged.append(MergedRun(f"sweep {name}", source, "left out", str(fault)))
    return merged


def _merged(results: Path, source: Path, name: str, observer: ClaimObserver) -> MergedRun:
    there, target = RunDir(source, name), RunDir(results, name)
    try:
        now = directory_state(there, observer=observer)
        if now.name == "running":
            return MergedRun(name, source, "left out", "a process works on it there; merge again when it has ended")
        if now.name in ("unreadable", "corrupt"):
            return MergedRun(name, source, "left out", now.note)
        there.read_run()
        if os.path.lexists(target.path):
            return _compared(there, target, source)
        _copy(there, target, results)
    except UsageError as fault:
        return MergedRun(name, source, "left out", one_line(fault))
    except FileExistsError:
        return MergedRun(name, source, "conflict", "another process has just made it here")
    except (OSError, shutil.Error) as error:
        return MergedRun(name, source, "left out", one_line(error))
    return MergedRun(name, source, "copied")


def _compared(there: RunDir, target: RunDir, source: Path) -> MergedRun:
    mine, theirs = (_record(folder) for folder in (target, there))
    if mine == theirs:
        return MergedRun(target.id, source, "same")
    if theirs is None:
        return MergedRun(target.id, source, "same", "it has ended here only")
    why = "it has not ended here" if mine is None else "the records differ"
    remedy = f"`python -m bench rm {target.id}`, and merge again, to have the other"
    return MergedRun(target.id, source, "conflict", f"{why}; {remedy}")


def _record(folder: RunDir) -> bytes | None:
    try:
        return read_bytes(folder.record)
    except FileNotFoundError:
        return None


def _copy(there: RunDir, target: RunDir, results: Path) -> None:
    """Copy a run directory; it appears with all its files or not at all, and takes nobody's place.

    Raises:
        OSError: it cannot be read or written; FileExistsError where there is such a run by now.
    """
    draft = results / f"{MERGED}{uuid.uuid4().hex[:12]}"
    try:
        draft.mkdir()
        for item in sorted(there.path.iterdir()):
            if item.name not in LEFT and not item.name.startswith(".") and not item.is_symlink():
                _copy_item(item, draft / item.name)
        (draft / "claim").mkdir()  # makes the folder one that cannot take the place of another, nor another its place
        draft.rename(target.path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _copy_item(item: Path, target: Path) -> None:
    """Copy a file or a folder of files; pipes, devices and links are no results and are passed over."""
    mode = item.lstat().st_mode
    if stat.S_ISREG(mode):
        shutil.copy2(item, target)
    elif stat.S_ISDIR(mode):
        target.mkdir()
        for inner in sorted(item.iterdir()):
            _copy_item(inner, target / inner.name)
