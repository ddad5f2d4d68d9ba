"""Claims: which process works on a run. A claim is a lease in a file system that several hosts may share.

A claim is a file ``claim/N`` that only one process can create; the file with the highest number is the current claim.
Its owner touches it at every beat. A process that sees it unchanged for the duration of the lease, measured **by its
own clock** (the clocks of two hosts are never compared), may create ``claim/N+1``; of several such processes only one
succeeds, and no number is used twice. An owner that finds its file gone, or one with a higher number, has lost the run
and writes nothing more. There are no file locks, because those of NFS cannot be relied upon.
"""

import json
import math
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from bench.environment import clean_text
from bench.errors import UsageError
from bench.events import OwnershipLost, RunHold
from bench.files import create_once, explain_write_errors, parse_json, require_regular_file, write_json

#: How long a claim lasts without a beat before others take the run over. More than the 60 s for which NFS clients may
#: keep attributes. Every claim file states the duration of its own lease.
LEASE_SECONDS = 90.0
LONGEST_LEASE = 7 * 24 * 3600.0
BEATS = 15  # per lease
CLOCK_SECONDS = 5.0  # by how much two readings of the start time of one process may differ

NUMBER = re.compile("[1-9][0-9]{0,17}")  # the name of a claim file

Verdict = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class ClaimOwner:
    """The process that made a claim, the contents of its file.

    Attributes:
        host: names the machine and the name space of process ids (:func:`host`).
        pid, started: process id and start time in seconds since the epoch, which identify a process on its host.
        lease: duration of the lease in seconds.
        job: the job of Slurm that the process belongs to.
        token: differs for every claim.
        released: whether the claim was given back.
    """

    host: str
    pid: int
    started: float
    lease: float
    job: str | None = None
    token: str = ""
    released: bool = False


UNKNOWN_OWNER = ClaimOwner("unknown", 0, 0.0, LEASE_SECONDS, token="unknown")


@dataclass(frozen=True)
class Claim:
    """The current claim on a run. ``beat`` is the modification time of its file in ns, which changes at every beat."""

    path: Path
    number: int
    owner: ClaimOwner
    beat: int

    @property
    def held(self) -> bool:
        """Whether the claim has not been given back."""
        return not self.owner.released


def node() -> str:
    """Return the name of the node of Slurm that this process runs on, elsewhere the name of the machine."""
    return clean_text(os.environ.get("SLURMD_NODENAME") or platform.node())


def host() -> str:
    """Return what must be equal for two processes to share process ids: node, boot of the machine, pid name space."""
    return "/".join([node(), *_boot_and_pid_namespace()])


@lru_cache
def _boot_and_pid_namespace() -> tuple[str, str]:
    boot, namespace = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid").rpartition(":")[2].strip("[]")
    return boot, namespace


def lease_seconds() -> float:
    """Return the duration of this process's leases: the environment's VLPET_BENCH_LEASE_SECONDS, or the default.

    Raises:
        UsageError: the variable is not a positive number.
    """
    value = os.environ.get("VLPET_BENCH_LEASE_SECONDS", str(LEASE_SECONDS))
    try:
        if 0 < (seconds := float(value)) <= LONGEST_LEASE:
            return seconds
    except ValueError:
        pass
    raise UsageError(f"VLPET_BENCH_LEASE_SECONDS={value}: expected seconds above 0, up to {LONGEST_LEASE:g}")


def this_process() -> ClaimOwner:
    """Return this process as the owner of a new claim."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")
    job = clean_text(job) if job else None
    started = psutil.Process().create_time()
    return ClaimOwner(host(), os.getpid(), started, lease_seconds(), job, token=uuid.uuid4().hex)


def current(folder: Path) -> Claim | None:
    """Return the current claim in a run's ``claim`` folder, or None where there was never any.

    Raises:
        UsageError: claims replace each other faster than they can be read.
    """
    for _ in range(10):  # a file that vanishes after it was listed has been replaced by one with a higher number
        numbers = _numbers(folder)
        if not numbers:
            return None
        path = folder / str(numbers[-1])
        try:
            require_regular_file(path)
            with path.open("rb") as file:  # opening makes NFS ask the server
                beat = os.fstat(file.fileno()).st_mtime_ns
                return Claim(path, numbers[-1], _owner(file.read()), beat)
        except FileNotFoundError:
            continue
        except OSError:  # a folder, a loop of links: nothing that any process of ours made
            return Claim(path, numbers[-1], UNKNOWN_OWNER, 0)
    raise UsageError(f"{folder}: claims come and go too quickly to be read; run the command again")


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if NUMBER.fullmatch(name))
    except OSError:  # no folder, or something else in its place
        return []


def _owner(content: bytes) -> ClaimOwner:
    """Return the owner in the content of a claim file; one that cannot be read counts as a process of another host."""
    try:
        owner = ClaimOwner(**parse_json(content))
        numbers = (owner.pid, owner.started, owner.lease)
        if all(isinstance(n, int | float) and math.isfinite(n) for n in numbers) and isinstance(owner.host, str):
            return replace(owner, pid=int(owner.pid), lease=min(owner.lease, LONGEST_LEASE))
    except (ValueError, TypeError, OverflowError):
        pass
    return UNKNOWN_OWNER


def process_lives(owner: ClaimOwner) -> bool | None:
    """Return whether the owner of a claim is alive; None for a process of another host, which cannot be asked."""
    if owner.host != host():
        return None
    try:
        process = psutil.Process(owner.pid)
        same = abs(process.create_time() - owner.started) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ClaimObserver:
    """Judges whether the owners of claims are alive, by the beats it has observed and this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # claim file -> (token and beat, time by the own clock at which they were first observed, whether the beat has
        # changed under the same token)
        self._observed: dict[Path, tuple[tuple[str, int], float, bool]] = {}

    def verdict(self, claim: Claim) -> Verdict:
        """Return whether the owner of a claim that is held is alive, dead, or not known yet.

        Alive: a beat was observed since the first look, or the process exists on this host. Dead: the process no longer
        exists on this host, or no beat was observed for the duration of the lease.
        """
        lives = process_lives(claim.owner)
        if lives is False:
            return "dead"
        mark, now = (claim.owner.token, claim.beat), self._clock()
        last_mark, since, has_beaten = self._observed.get(claim.path, (("", 0), now, False))
        if mark != last_mark:
            has_beaten = last_mark[0] == mark[0]
            since = now
            self._observed[claim.path] = (mark, now, has_beaten)
        if now - since > claim.owner.lease:
            return "dead"
        return "alive" if lives or has_beaten else "unknown"

    def is_held(self, folder: Path) -> bool:
        """Return whether the run is claimed by an owner that is not known to be dead."""
        claim = current(folder)
        return claim is not None and claim.held and self.verdict(claim) != "dead"


class Lease(RunHold):
    """A claim of this process. As a context manager it beats in a thread, and gives the claim back at the end.

    ``on_beat`` is called at every beat; a string that it returns is the reason for which the run is to stop.
    """

    def __init__(self, path: Path, owner: ClaimOwner, on_beat: Callable[[], str | None] = lambda: None) -> None:
        self.path = path
        self.owner = owner
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
        # Not flushed to the disk: a claim that a crash of the machine tears lapses as one does whose owner it ended.
        if not create_once(path, json.dumps(asdict(owner)).encode(), durable=False):
            return None
        numbers = _numbers(folder)
        if numbers[-1] != number:  # this process was suspended meanwhile, and others have made later claims
            path.unlink(missing_ok=True)
            return None
        for lower in numbers[:-1]:
            (folder / str(lower)).unlink(missing_ok=True)
        return Lease(path, owner)
