"""Claims: which process works on a run. A claim is a lease in a file system that several hosts may share.

A claim is a file ``claim/N`` that only one process can create; the file with the highest number is the current claim.
Its owner touches it at every beat. A process that sees it unchanged for the duration of the lease, measured **by its
own clock** (the clocks of two hosts are never compared), may create ``claim/N+1``; of several such processes only one
succeeds, and no number is used twice. A claim whose last beat is older than its lease by the clock of the file system
has to be watched for a few beats only. An owner that finds its file gone, or one with a higher number, has lost the run
and writes nothing more. There are no file locks, because those of NFS cannot be relied upon.

Beside its claim an owner has a folder ``claim/drafts-TOKEN``. What it writes begins there and is renamed, so whoever
takes the run over takes that folder away first: see :mod:`bench.guarded_folder`.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Literal

from bench.errors import UsageError
from bench.events import OwnershipLost, RunHold
from bench.files import create_once, explain_write_errors, is_draft, write_json
from bench.guarded_folder import remove_drafts
from bench.run_dir import RunDir
from bench.sweep import file_clock
from bench.sweep.claim_files import NUMBER, Claim, ClaimOwner, claim_numbers, current, host, this_process
from bench.sweep.processes import is_alive

BEATS = 15  # per lease
WATCHED_PART = 0.2  # of a lease: for how long a claim is watched that has been silent for longer than its lease
DRAFTS = "drafts-"  # begins the name of an owner's folder of drafts

Verdict = Literal["alive", "dead", "unknown"]


def process_lives(owner: ClaimOwner) -> bool | None:
    """Return whether the owner of a claim is alive; None for a process of another host, which cannot be asked."""
    return is_alive(owner.pid, owner.ticks) if owner.host == host() else None


class ClaimObserver:
    """Judges whether the owners of claims are alive, by the beats it has observed and this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # claim file -> (token and beat, time by the own clock at which they were first observed, whether the beat has
        # changed under the same token, how old the beat was then by the clock of the file system)
        self._observed: dict[Path, tuple[tuple[str, int], float, bool, float]] = {}

    def verdict(self, claim: Claim) -> Verdict:
        """Return whether the owner of a claim that is held is alive, dead, or not known yet.

        Alive: a beat was observed since the first look, or the process exists on this host. Dead: the process no longer
        exists on this host, or no beat was observed for the duration of the lease; for a fifth of it where the last
        beat was older than the lease already at the first look. One look at an old beat is not enough: a step of a
        clock makes all beats old at once.
        """
        lives = process_lives(claim.owner)
        if lives is False:
            return "dead"
        _, since, has_beaten, age = self._look(claim)
        watched = self._clock() - since
        if watched > claim.owner.lease * (WATCHED_PART if age > claim.owner.lease else 1):
            return "dead"
        return "alive" if lives or has_beaten else "unknown"

    def silence(self, claim: Claim) -> float:
        """Return for how many seconds nothing was heard of the owner of a claim, as far as can be told."""
        _, since, _, age = self._look(claim)
        return age + self._clock() - since

    def _look(self, claim: Claim) -> tuple[tuple[str, int], float, bool, float]:
        mark, now = (claim.owner.token, claim.beat), self._clock()
        last = self._observed.get(claim.path)
        if last is None or last[0] != mark:
            has_beaten = last is not None and last[0][0] == mark[0]
            age = 0.0 if has_beaten or claim.owner.host == host() else _age(claim)
            last = self._observed[claim.path] = (mark, now, has_beaten, age)
        return last

    def is_held(self, folder: Path) -> bool:
        """Return whether the run is claimed by an owner that is not known to be dead."""
        claim = current(folder)
        return claim is not None and claim.held and self.verdict(claim) != "dead"


def _age(claim: Claim) -> float:
    """Return the seconds since the last beat by the clock of the file system; 0 where it cannot be asked."""
    if not claim.beat:
        return 0.0
    now = file_clock.now_ns(claim.path.parent)
    return 0.0 if now is None else max(0.0, (now - claim.beat) / 1e9)


class Lease(RunHold):
    """A claim of this process. As a context manager it beats in a thread, and gives the claim back at the end.

    ``on_beat`` is called at every beat; a string that it returns is the reason for which the run is to stop.
    """

    def __init__(self, path: Path, owner: ClaimOwner, on_beat: Callable[[], str | None] = lambda: None) -> None:
        self.path = path
        self.owner = owner
        self.drafts: Path = _drafts(path.parent, owner)
        self.on_beat = on_beat
        self.lost = False
        self._renewed = _now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_beats()
        with suppress(OSError):
            if not self.lost and self._is_ours():
                self._release()
        with suppress(OSError):
            remove_drafts(self.drafts, self.path.parent.parent)

    def stop_beats(self) -> None:
        """End the beats, and so the calls of ``on_beat``, without giving the claim back."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Check before every write that the run is still this process's.

        Raises:
            OwnershipLost: another process has taken the run over.
        """
        # A beat is overdue where this process or its file system was suspended: look before the write.
        if not self.lost and _now() - self._renewed > self.owner.lease / 3:
            self.renew()
        if self.lost:
            raise OwnershipLost("another process has taken the run over")

    def verify(self) -> None:
        """Look now, and raise OwnershipLost where the run is another process's or about to become so."""
        if not self.lost:
            self.renew()
        if self.lost or not self.drafts.is_dir():
            raise OwnershipLost("another process has taken the run over")

    def renew(self) -> None:
        """Touch the claim, or set ``lost`` where another process has taken the run over.

        Where the file system has not answered for the duration of the lease, the run counts as lost: other hosts may
        see the claim expired and take the run over.
        """
        try:
            if not self._is_ours():
                self.lost = True
                return
            os.utime(self.path)
            self._renewed = _now()
        except FileNotFoundError:
            self.lost = True
        except OSError:
            self.lost = _now() - self._renewed > self.owner.lease

    def _is_ours(self) -> bool:
        return self.path.exists() and not self.path.with_name(str(int(self.path.name) + 1)).exists()

    def _beat(self) -> None:
        while not self._ended.wait(self.owner.lease / BEATS) and not self.lost:
            self.renew()
            with suppress(Exception):  # an error in the callback must not cost the claim
                self.stop = self.stop or self.on_beat()
        if self.lost:
            self.stop = self.stop or "lost"

    def _release(self) -> None:
        """Mark the claim as given back. The file stays, so that its number is not used again."""
        try:
            write_json(self.path, asdict(self.owner) | {"released": True}, durable=False)
        except OSError:  # a full disk; the number may be used again, which matters only to a suspended process
            with suppress(OSError):
                self.path.unlink()


def _now() -> float:
    """Return seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def acquire(folder: Path, observer: ClaimObserver) -> Lease | None:
    """Claim a run that nobody holds or whose owner is dead.

    Args:
        folder: the ``claim`` folder of the run; it is made if need be.
        observer: judges the owner of the present claim.

    Returns:
        The lease, to be entered as a context; None where the run is another process's, or another was faster.

    Raises:
        UsageError: the folder cannot be written.
    """
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        claim = current(folder)
        if claim is not None and claim.held and observer.verdict(claim) != "dead":
            return None
        number = claim.number + 1 if claim else 1
        owner = this_process()
        path = folder / str(number)
        drafts = _drafts(folder, owner)
        drafts.mkdir()
        try:
            claimed = create_once(path, json.dumps(asdict(owner)).encode())
        except OSError:
            shutil.rmtree(drafts, ignore_errors=True)
            raise
        if not claimed or claim_numbers(folder)[-1:] != [number]:
            if claimed:  # this process was suspended meanwhile, and others have made later claims
                path.unlink(missing_ok=True)
            shutil.rmtree(drafts, ignore_errors=True)
            return None
        _take_over(folder, number, drafts)
        return Lease(path, owner)


@contextmanager
def claimed(run_dir: RunDir) -> Iterator[None]:
    """Hold a run directory for the duration of the block, so that ``run_dir`` can write to it.

    Raises:
        UsageError: another process works on the run, or the directory cannot be written.
    """
    lease = acquire(run_dir.claim, ClaimObserver())
    if lease is None:
        raise UsageError(f"{run_dir.path}: another process works on this run; wait until it has ended")
    before = run_dir.hold
    with lease:
        run_dir.hold = lease
        try:
            yield
        finally:
            run_dir.hold = before


def _drafts(folder: Path, owner: ClaimOwner) -> Path:
    return folder / f"{DRAFTS}{owner.token}"


def _take_over(folder: Path, number: int, drafts: Path) -> None:
    """Take what former owners write with, and remove their claims and drafts.

    Nothing that a former owner does after this changes a file of the run.
    """
    for item in list(folder.iterdir()):
        if NUMBER.fullmatch(item.name) and int(item.name) < number:
            with suppress(OSError):
                item.unlink()
        elif item.name.startswith(DRAFTS) and item != drafts:
            with suppress(FileNotFoundError):
                item.rename(drafts / item.name)
            with suppress(OSError):
                remove_drafts(drafts / item.name, folder.parent)
        elif is_draft(item) and item.is_file():
            item.unlink(missing_ok=True)
