"""Removing runs that nobody works on, each in one step, so that no other process ever sees half of one."""

import shutil
import uuid
from pathlib import Path

from bench.errors import UsageError
from bench.files import explain_write_errors
from bench.run_dir import RunDir
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.leftovers import REMOVED


def remove_run(results: Path, run_dir: RunDir) -> None:
    """Remove the directory of a run; of one that is a link, the link.

    Raises:
        UsageError: it is no run, somebody works on it or may do so on another host, or it cannot be removed.
    """
    with explain_write_errors(run_dir.path):
        if not run_dir.run.exists() and not run_dir.record.exists():
            raise UsageError(f"{run_dir.path}: is no run, it has no run.json; remove it by hand")
        if run_dir.path.is_symlink():
            run_dir.path.unlink()
            return
        lease = acquire(run_dir.claim, ClaimObserver())
        if lease is None:
            raise UsageError(f"{run_dir.path}: a process works on this run; `python -m bench cancel` stops it")
        aside = results / f"{REMOVED}{uuid.uuid4().hex[:12]}"
        with lease:
            lease.stop_beats()
            run_dir.path.rename(aside)
            lease.path = aside / lease.path.relative_to(run_dir.path)  # nothing is written where others may begin
        shutil.rmtree(aside)
