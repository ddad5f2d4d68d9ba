"""Attempts at a run: which process made them, when, where, and how each ended.

One file per attempt, ``attempts/N.json``, written only by the owner of the run's claim. An attempt without an outcome
was killed, unless it is still going on.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench.files import json_bytes, parse_json, read_bytes
from bench.record_schema import ExtensibleModel, Record, now
from bench.run_dir import RunDir
from bench.states import FAILURES_UNTIL_PARKED
from bench.sweep.claim_files import ClaimOwner, node

FILE = re.compile(r"([1-9][0-9]{0,17})\.json")
KILLS_UNTIL_PARKED = 3  # deaths in a row without a new checkpoint after which a run is parked
SURROUNDINGS = "surroundings"  # the failure kind of an attempt that left no record: somebody has to mend them first
WORKER_DIED = "worker: WorkerDied"  # the failure kind of a run that was parked because its processes died


class Attempt(ExtensibleModel):
    """One attempt at a run.

    Attributes:
        number: counts from 1 in each run directory.
        begun, ended: times in ISO 8601, UTC.
        host, pid, job: the process, and the job of Slurm that it belonged to.
        log: the file that received the output of a worker process; None where the run was executed inline.
        checkpoint: modification time in ns of the checkpoint that the attempt began from, 0 for none.
        outcome: None for an attempt that was killed or is going on.
        reason: the message of the failure, or what interrupted the attempt (the name of a signal, "cancelled").
        kind: the phase and exception type of a failure (:func:`failure_kind`); SURROUNDINGS where the attempt failed
            for what is no result of the run, which then counts as interrupted.
    """

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


def read(run_dir: RunDir) -> list[Attempt]:
    """Return the attempts at a run in order. A torn file is an attempt that was killed while it began."""
    attempts = []
    names: list[str] = []
    with suppress(OSError):  # none yet, or not to be looked into
        names = os.listdir(run_dir.attempts)
    for number in sorted(int(match[1]) for name in names if (match := FILE.fullmatch(name))):
        try:
            attempts.append(Attempt.model_validate(parse_json(read_bytes(_path(run_dir, number)))))
        except (OSError, ValueError, ValidationError):
            attempts.append(Attempt(number=number, begun="", host="unknown", pid=0))
    return attempts


def begin(run_dir: RunDir, owner: ClaimOwner, log: str | None) -> Attempt:
    """Write the file of a new attempt by the owner of the claim and return its content."""
    run_dir.attempts.mkdir(exist_ok=True)
    earlier = read(run_dir)
    attempt = Attempt(
        number=earlier[-1].number + 1 if earlier else 1,
        begun=now(),
        host=node(),
        pid=owner.pid,
        job=owner.job,
        log=log,
        checkpoint=checkpoint_time(run_dir),
    )
    _write(run_dir, attempt)
    return attempt


def end(run_dir: RunDir, attempt: Attempt, outcome: str, reason: str = "", kind: str = "") -> None:
    """Write how an attempt ended; of the ``reason`` the first 500 characters are kept, on one line.

    On a full disk the file is written over in its place, where it has a block of its own: an attempt without an outcome
    would count as killed.

    Raises:
        OwnershipLost: another process has taken the run over.
        OSError: the file cannot be written.
    """
    ending: dict[str, Any] = {"ended": now(), "outcome": outcome, "reason": " ".join(reason.split())[:500]}
    ended = attempt.model_copy(update={**ending, "kind": kind})
    try:
        _write(run_dir, ended)
    except OSError:
        run_dir.hold.verify()
        with _path(run_dir, attempt.number).open("r+b") as file:
            file.write(json_bytes(ended.model_dump(mode="json")))
            file.truncate()


def last_log(run_dir: RunDir) -> str | None:
    """Return the output file of the last attempt, or None where it was not made by a worker process."""
    attempts = read(run_dir)
    return attempts[-1].log if attempts else None


def failure_kind(record: Record) -> str:
    """Return what two failures of the same kind share: the phase and the type of the exception."""
    return f"{record.error.phase}: {record.error.type}" if record.error else ""


def is_parked(record: Record, attempts: list[Attempt]) -> bool:
    """Return whether a failed run is not worth another attempt: it has failed in the same way before."""
    kinds = [attempt.kind for attempt in attempts if attempt.outcome == "failed"]
    return failure_kind(record) == WORKER_DIED or kinds.count(failure_kind(record)) >= FAILURES_UNTIL_PARKED


def kills_in_a_row(run_dir: RunDir) -> list[Attempt]:
    """Return the last KILLS_UNTIL_PARKED attempts if all of them were killed at the same checkpoint, else []."""
    last = read(run_dir)[-KILLS_UNTIL_PARKED:]
    no_progress = {attempt.checkpoint for attempt in last} == {checkpoint_time(run_dir)}
    killed = all(attempt.outcome is None for attempt in last)
    return last if len(last) == KILLS_UNTIL_PARKED and no_progress and killed else []


def checkpoint_time(run_dir: RunDir) -> int:
    """Return the modification time of the checkpoint in ns, which tells checkpoints apart without reading them."""
    try:
        return run_dir.checkpoint.stat().st_mtime_ns
    except OSError:  # none, or a loop of links
        return 0


def _path(run_dir: RunDir, number: int) -> Path:
    return run_dir.attempts / f"{number}.json"


def _write(run_dir: RunDir, attempt: Attempt) -> None:
    run_dir.write_json(_path(run_dir, attempt.number), attempt.model_dump(mode="json"))
