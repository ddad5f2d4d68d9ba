"""What processes that were killed have left in a run directory, and its removal."""

from dataclasses import dataclass
from pathlib import Path

from bench.files import is_draft
from bench.run_dir import RunDir
from bench.sweep.claim_files import current
from bench.sweep.claims import DRAFTS, ClaimObserver, claimed


@dataclass(frozen=True)
class Leftover:
    """A file or folder of drafts that nobody needs any more: its path, its size in bytes, and why."""

    path: Path
    size: int
    reason: str


def find_leftovers(run_dir: RunDir, observer: ClaimObserver) -> list[Leftover]:
    """Return the leftovers in a run directory; none where an owner of the run may be alive.

    These are drafts, the checkpoint of a finished run, and the progress of a run that nobody executes. Records,
    weights, predictions, curves, and the checkpoints of runs that are to go on are none.

    Raises:
        UnreadableFile: this process may not read the record.
        OSError: this process may not look into the directory.
    """
    claim = current(run_dir.claim)
    if claim is not None and claim.held and observer.verdict(claim) != "dead":
        return []
    listed = [(path, "draft of a process that was killed") for path in [*run_dir.drafts(), *_claim_drafts(run_dir)]]
    record = run_dir.read()
    if record is not None and record.status == "done" and run_dir.checkpoint.is_file():
        listed.append((run_dir.checkpoint, "checkpoint of a run that is done"))
    if run_dir.progress.is_file():
        listed.append((run_dir.progress, "progress of a run that nobody executes"))
    return [Leftover(path, 0 if path.is_dir() else path.lstat().st_size, reason) for path, reason in listed]


def remove_leftovers(run_dir: RunDir, leftovers: list[Leftover]) -> None:
    """Remove leftovers of a run that nobody executes.

    Raises:
        UsageError: somebody has begun to work on the run, or the directory cannot be written.
        OSError: a file cannot be removed.
    """
    with claimed(run_dir):  # whoever claims a run removes the drafts in the folder of claims
        for leftover in leftovers:
            run_dir.remove(leftover.path)


def _claim_drafts(run_dir: RunDir) -> list[Path]:
    """Return the drafts beside claims, and the folders of former owners with what is in them."""
    items = list(run_dir.claim.iterdir()) if run_dir.claim.is_dir() else []
    folders = [item for item in items if item.name.startswith(DRAFTS) and item.is_dir()]
    paths = [*items, *(path for folder in folders for path in folder.iterdir())]
    return sorted([*folders, *(path for path in paths if is_draft(path) and path.is_file())])
