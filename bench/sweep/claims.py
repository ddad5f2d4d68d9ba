"""Claims: who works on a run. A claim is a lease, renewed while its owner works, on any file system that several hosts
share.

A claim is a file ``claim/N`` that only one process can create; the highest number is the claim that counts. Its owner
touches it at every beat. Whoever sees it unchanged for the time the claim promises, **by his own clock** (no two clocks
are ever compared), may create ``claim/N+1``; of several only one can, and the numbers never come back. An owner who
finds his file gone, or a higher one, has lost the run and writes nothing more. No locks: NFS has none to rely on.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from bench.errors import UsageError
from bench.events import OwnershipLost, RunHold
from bench.files import explain_write_errors, write_json

#: For how long an owner may not be heard of before others take its run over. More than the time for which NFS clients
#: keep attributes (60 s at most); every claim says its own.
LEASE_SECONDS = 90.0
BEATS = 15  # of an owner during one lease
CLOCK_SECONDS = 5.0  # by how much the start time of one process, read twice, may differ

Verdict = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class ClaimOwner:
    """Who made a claim: enough to tell on the same host whether it lives, and to find its log from any other."""

    host: str
    pid: int
    started: float
    lease: float
    job: str | None = None
    token: str = ""
    released: bool = False


@dataclass(frozen=True)
class Claim:
    """The claim on a run as it stands: its number, its owner, and the beat, which changes while the owner lives."""

    path: Path
    number: int
    owner: ClaimOwner
    beat: int

    @property
    def held(self) -> bool:
        """Whether it has not been given back."""
        return not self.owner.released


def node() -> str:
    """Return the name of this machine, or of the (perhaps virtual) node that Slurm takes it for."""
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def host() -> str:
    """Name the place in which process ids mean something: node, boot of its host, name space of processes."""
    return "/".join([node(), *_place()])


@lru_cache
def _place() -> tuple[str, str]:
    boot, names = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    with suppress(OSError):
        names = os.readlink("/proc/self/ns/pid").rpartition(":")[2].strip("[]")
    return boot, names


def lease_seconds() -> float:
    """Return how long a claim of this process lasts without a beat: VLPET_BENCH_LEASE_SECONDS, or the default.

    Raises:
        UsageError: it is not a positive number.
    """
    said = os.environ.get("VLPET_BENCH_LEASE_SECONDS", str(LEASE_SECONDS))
    try:
        if (seconds := float(said)) > 0:
            return seconds
    except ValueError:
        pass
    raise UsageError(f"VLPET_BENCH_LEASE_SECONDS={said}: expected a number of seconds above 0")


def this_process() -> ClaimOwner:
    """Describe this process as the owner of a new claim."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID")
    started = psutil.Process().create_time()
    return ClaimOwner(host(), os.getpid(), started, lease_seconds(), job, token=uuid.uuid4().hex)


def current(folder: Path) -> Claim | None:
    """Return the claim that counts in a run's ``claim`` folder, or None where nobody ever made one."""
    for _ in range(10):  # a file that vanished between two looks was replaced by a higher one
        numbers = _numbers(folder)
        if not numbers:
            return None
        path = folder / str(numbers[-1])
        with suppress(FileNotFoundError), path.open("rb") as file:  # opened: NFS then asks the server
            beat = os.fstat(file.fileno()).st_mtime_ns
            return Claim(path, numbers[-1], _owner(file.read()), beat)
    raise UsageError(f"{folder}: claims come and go too quickly to be read; run the command again")


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _owner(content: bytes) -> ClaimOwner:
    """Read an owner; one that cannot be read is somebody on another host."""
    try:
        return ClaimOwner(**json.loads(content))
    except (ValueError, TypeError):
        return ClaimOwner("unknown", 0, 0.0, LEASE_SECONDS)


def process_lives(owner: ClaimOwner) -> bool | None:
    """Return whether the process of a claim made on this host is alive; None for another host's."""
    if owner.host != host():
        return None
    try:
        process = psutil.Process(owner.pid)
        same = abs(process.create_time() - owner.started) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ClaimObserver:
    """Judges the owners of claims by what it has seen of them, with this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[tuple[str, int], float, bool]] = {}

    def verdict(self, claim: Claim) -> Verdict:
        """Return whether the owner of a claim that is held is alive, dead, or not known yet.

        Alive: a beat was seen since the first look, or the process is there on this host. Dead: the process is gone
        from this host, or no beat was seen for the time of the lease.
        """
        lives = process_lives(claim.owner)
        if lives is False:
            return "dead"
        mark, now = (claim.owner.token, claim.beat), self._clock()
        before, since, beaten = self._seen.get(claim.path, (("", 0), now, False))
        if mark != before:
            beaten = before[0] == mark[0]
            since = now
            self._seen[claim.path] = (mark, now, beaten)
        if now - since > claim.owner.lease:
            return "dead"
        return "alive" if lives or beaten else "unknown"

    def is_held(self, folder: Path) -> bool:
        """Return whether somebody who is not known to be dead works on the run."""
        claim = current(folder)
        return claim is not None and claim.held and self.verdict(claim) != "dead"


class Lease(RunHold):
    """A claim of ours. As a context it beats in a thread of its own, and gives the claim back at the end.

    ``on_beat`` is called at every beat; a text that it returns asks the run to stop.
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
        self.quiet()
        with suppress(OSError):
            if not self.lost and self._is_ours():
                self._release()

    def quiet(self) -> None:
        """End the beats; what ``on_beat`` wrote stays as it is."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raise Lost where the run is not ours any more; called before everything that is written."""
        if not self.lost and _now() - self._renewed > self.owner.lease / 3:  # this process slept, or the disk did
            self.renew()
        if self.lost:
            raise OwnershipLost("another process has taken the run over")

    def renew(self) -> None:
        """Show that we live, or find out that the run is lost.

        A file system that does not answer for the time of a lease is as good as lost: others may see what we cannot.
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
            with suppress(Exception):  # whatever goes wrong there, the beats go on
                self.stop = self.stop or self.on_beat()
        if self.lost:
            self.stop = self.stop or "lost"

    def _release(self) -> None:
        """Mark the claim as given back. The file stays, so that its number does not come again."""
        try:
            write_json(self.path, asdict(self.owner) | {"released": True}, durable=False)
        except OSError:  # a full disk; the number may come again, which only matters to a process asleep right now
            with suppress(OSError):
                self.path.unlink()


def _now() -> float:
    """Seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def acquire(folder: Path, observer: ClaimObserver) -> Lease | None:
    """Claim a run if nobody has, or its owner is dead; None where it is another's, or another was quicker.

    Raises:
        UsageError: the folder cannot be written.
    """
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        found = current(folder)
        if found is not None and found.held and observer.verdict(found) != "dead":
            return None
        number = found.number + 1 if found else 1
        owner = this_process()
        path = folder / str(number)
        if not _create(path, owner):
            return None
        numbers = _numbers(folder)
        if numbers[-1] != number:  # we were slow: others have gone on from there
            path.unlink(missing_ok=True)
            return None
        for lower in numbers[:-1]:
            (folder / str(lower)).unlink(missing_ok=True)
        return Lease(path, owner)


def _create(path: Path, owner: ClaimOwner) -> bool:
    """Create a claim with its content in one step, which fails where there is one."""
    draft = path.with_name(f".{path.name}.{owner.token}")
    try:
        draft.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
