"""The files of claims: what they hold, who made them, and which one counts (:mod:`bench.sweep.claims`)."""

import math
import os
import platform
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

from bench.environment import clean_text
from bench.errors import UsageError
from bench.files import parse_json, require_regular_file
from bench.sweep.processes import start_ticks

#: How long a claim lasts without a beat before others take the run over. More than the 60 s for which NFS clients may
#: keep attributes. Every claim file states the duration of its own lease.
LEASE_SECONDS = 90.0
LONGEST_LEASE = 7 * 24 * 3600.0

NUMBER = re.compile("[1-9][0-9]{0,17}")  # the name of a claim file


@dataclass(frozen=True)
class ClaimOwner:
    """The process that made a claim, the contents of its file.

    Attributes:
        host: names the machine and the name space of process ids (:func:`host`).
        pid, ticks: process id and start time (:func:`bench.sweep.processes.start_ticks`), which identify a process on
            its host; the latter is -1 in claims of earlier versions.
        lease: duration of the lease in seconds.
        job: the job of Slurm that the process belongs to.
        token: differs for every claim.
        released: whether the claim was given back.
    """

    host: str
    pid: int
    lease: float
    ticks: int = -1
    job: str | None = None
    token: str = ""
    released: bool = False


UNKNOWN_OWNER = ClaimOwner("unknown", 0, LEASE_SECONDS, token="unknown")
FIELDS = {field.name for field in fields(ClaimOwner)}


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
    ticks = start_ticks(os.getpid())
    return ClaimOwner(host(), os.getpid(), lease_seconds(), -1 if ticks is None else ticks, job, token=uuid.uuid4().hex)


def current(folder: Path) -> Claim | None:
    """Return the current claim in a run's ``claim`` folder, or None where there was never any.

    Raises:
        UsageError: claims replace each other faster than they can be read.
        PermissionError: this process may not look into the folder.
    """
    for _ in range(10):  # a file that vanishes after it was listed has been replaced by one with a higher number
        numbers = claim_numbers(folder)
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


def claim_numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if NUMBER.fullmatch(name))
    except PermissionError:
        raise
    except OSError:  # no folder, or something else in its place
        return []


def _owner(content: bytes) -> ClaimOwner:
    """Return the owner in the content of a claim file; one that cannot be read counts as a process of another host."""
    try:
        owner = ClaimOwner(**{key: value for key, value in parse_json(content).items() if key in FIELDS})
        numbers = (owner.pid, owner.ticks, owner.lease)
        if all(isinstance(n, int | float) and math.isfinite(n) for n in numbers) and isinstance(owner.host, str):
            lease = min(owner.lease, LONGEST_LEASE)
            return replace(owner, pid=int(owner.pid), ticks=int(owner.ticks), lease=lease)
    except (ValueError, TypeError, AttributeError, OverflowError):
        pass
    return UNKNOWN_OWNER
