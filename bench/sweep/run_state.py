"""The state of a run: read off its directory whenever it is asked for, never stored."""

from dataclasses import dataclass
from pathlib import Path

from bench.config import Run
from bench.errors import UsageError
from bench.files import CorruptFile, UnreadableFile, one_line
from bench.fingerprints import Expectations, differences, of_record, summary
from bench.run_dir import RunDir
from bench.states import RetryPolicy, StateName
from bench.sweep import attempts
from bench.sweep.claim_files import current
from bench.sweep.claims import ClaimObserver


@dataclass(frozen=True)
class State:
    """The state of a run (:data:`bench.states.STATES`) and a note on it.

    The note is the cause of a failure, the file that is corrupt or unreadable, the reason of an interruption with what
    mends it, what has changed since a run that is stale, or for how long nothing was heard of a run that seems to be
    running.
    """

    name: StateName
    note: str = ""

    def is_settled(self, retry: RetryPolicy) -> bool:
        """Return whether a sweep with this policy leaves the run alone."""
        return retry.is_settled(self.name, self.note)


def state(
    results: Path, run: Run, observer: ClaimObserver | None = None, expected: Expectations | None = None
) -> State:
    """Return the state of a run in a results folder.

    With ``expected`` a record of other data, weights or methods than those that are there now makes the run stale.

    An ``observer`` that has looked before can tell a dead owner on another host from a living one; a new one takes
    every owner on another host for living, and notes for how long nothing was heard of it.
    """
    run_dir = RunDir(results, run.id)
    stored = stored_state(run_dir, run, expected)
    if stored.name in ("done", "unreadable"):
        return stored
    try:
        claim = current(run_dir.claim)
        if claim is None or not claim.held:
            return stored
        observer = observer or ClaimObserver()
        verdict = observer.verdict(claim)
        if verdict == "dead":
            return stored
        silence = observer.silence(claim)
        is_silent = verdict == "unknown" and silence > claim.owner.lease
        return State("running", f"not heard of for {_duration(silence)}" if is_silent else "")
    except (OSError, UsageError) as error:
        return State("unreadable", one_line(error))


def stored_state(run_dir: RunDir, run: Run | None = None, expected: Expectations | None = None) -> State:
    """Return the state of a run whose claim nobody holds. One that has begun and has no record was interrupted.

    Whether its record is stale is known where ``run`` and ``expected`` are given.
    """
    try:
        return _stored_state(run_dir, run, expected)
    except CorruptFile as fault:
        return State("corrupt", str(fault))
    except (UnreadableFile, OSError) as fault:  # a folder that this process may not look into, or that has just gone
        return State("unreadable", one_line(fault))


def _stored_state(run_dir: RunDir, run: Run | None, expected: Expectations | None) -> State:
    record = run_dir.read()
    made_of = expected.of(run) if record is not None and run is not None and expected is not None else {}
    if record is not None and (lines := differences(of_record(record), made_of)):
        return State("stale", summary(lines))
    if record is not None and record.status == "done":
        return State("done")
    if run_dir.cancelled.exists():
        return State("cancelled")
    earlier = attempts.read(run_dir)
    if record is not None:
        return State("parked" if attempts.is_parked(record, earlier) else "failed", record.cause or "")
    if earlier:
        return State("interrupted", earlier[-1].reason or "killed")
    return State("interrupted" if run_dir.run.exists() else "missing")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
