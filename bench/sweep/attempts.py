"""Attempts at a run: who tried, when, where, and how it ended; and when to stop trying.

One file per attempt, ``attempts/N.json``, written by the owner of the run's claim only. An attempt without an outcome
was killed, unless it is still going on.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench.files import write_json
from bench.record_schema import ExtensibleModel, Record, now
from bench.run_dir import RunDir
from bench.sweep.claims import ClaimOwner, node

ALIKE = 2  # failures in the same way after which a run is parked
KILLS = 3  # deaths in a row without a new checkpoint after which it is parked
FINAL = ("nan", "unsupported")  # causes that no second attempt changes
WORKER_DIED = "worker: WorkerDied"  # the kind of a run that was parked for its deaths


class Attempt(ExtensibleModel):
    """One attempt. ``checkpoint`` marks the checkpoint that it began from, 0 for none."""

    number: int
    begun: str
    host: str
    pid: int
    job: str | None = None
    log: str | None = None
    checkpoint: int = 0
    ended: str | None = None
    outcome: Literal["done", "failed", "interrupted"] | None = None
    reason: str = ""
    kind: str = ""


def read(folder: RunDir) -> list[Attempt]:
    """Return the attempts at a run, in order; a torn file is an attempt that was killed while it began."""
    found = []
    for number in sorted(int(path.stem) for path in folder.attempts.glob("[0-9]*.json")):
        try:
            found.append(Attempt.model_validate(json.loads(_path(folder, number).read_bytes())))
        except (OSError, ValueError, ValidationError):
            found.append(Attempt(number=number, begun="", host="unknown", pid=0))
    return found


def begin(folder: RunDir, owner: ClaimOwner, log: str | None) -> Attempt:
    """Write down that an attempt begins."""
    folder.attempts.mkdir(exist_ok=True)
    before = read(folder)
    attempt = Attempt(
        number=before[-1].number + 1 if before else 1,
        begun=now(),
        host=node(),
        pid=owner.pid,
        job=owner.job,
        log=log,
        checkpoint=_mark(folder),
    )
    _write(folder, attempt)
    return attempt


def end(folder: RunDir, attempt: Attempt, outcome: str, reason: str = "", kind: str = "") -> None:
    """Write down how an attempt ended. ``kind`` is the same for failures in the same way."""
    told: dict[str, Any] = {"ended": now(), "outcome": outcome, "reason": " ".join(reason.split())[:300], "kind": kind}
    folder.check()
    _write(folder, attempt.model_copy(update=told))


def log(folder: RunDir) -> str | None:
    """Return the file that took the output of the last attempt, where it was a worker's."""
    tried = read(folder)
    return tried[-1].log if tried else None


def kind(record: Record) -> str:
    """Return what two failures in the same way have in common: the phase and the type of the error."""
    return f"{record.error.phase}: {record.error.type}" if record.error else ""


def parked(record: Record, attempts: list[Attempt]) -> bool:
    """Return whether a failed run is not worth another attempt: it has failed in the same way before."""
    failed = [attempt.kind for attempt in attempts if attempt.outcome == "failed"]
    return kind(record) == WORKER_DIED or failed.count(kind(record)) >= ALIKE


def killed_too_often(folder: RunDir) -> list[Attempt]:
    """Return the last attempts if all of them were killed and none got further than the one before, else nothing."""
    last = read(folder)[-KILLS:]
    same = {attempt.checkpoint for attempt in last} == {_mark(folder)}
    return last if len(last) == KILLS and same and all(attempt.outcome is None for attempt in last) else []


def _mark(folder: RunDir) -> int:
    """Tell the run's checkpoints from each other without reading them."""
    try:
        return folder.checkpoint.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _path(folder: RunDir, number: int) -> Path:
    return folder.attempts / f"{number}.json"


def _write(folder: RunDir, attempt: Attempt) -> None:
    write_json(_path(folder, attempt.number), attempt.model_dump(mode="json"))
