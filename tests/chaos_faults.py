"""The faults of ``python -m tests.chaos``: each is a function that breaks something, and mends it later if need be."""

import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dev_slurm import DevSlurm
from sweeping import ROOT, Sweeping

from bench.config import Run
from bench.sweep.attempts import KILLS_UNTIL_PARKED, Attempt, checkpoint_time

OTHER_USER = 65534  # "nobody", who owns nothing
NODES = ("node1", "node2", "node3", "node4")


@dataclass(frozen=True)
class Mend:
    """What undoes a fault, and when. ``surroundings``: of a fault of which one at a time is enough."""

    due: float
    undo: Callable[[], None]
    surroundings: bool = False


class Shaken:
    """A sweep that is being disturbed: its runs, and what is broken at the moment."""

    def __init__(self, on: Sweeping, runs: Sequence[Run], executor: str, seed: int) -> None:
        self.on = on
        self.runs = list(runs)
        self.executor = executor
        self.random = random.Random(f"{seed} {executor}")
        self.mends: list[Mend] = []
        self.guest: subprocess.Popen[bytes] | None = None
        self.struck: Counter[str] = Counter()
        self._deck: list[Fault] = []

    @property
    def cluster(self) -> DevSlurm:
        assert self.on.cluster
        return self.on.cluster

    def at_work(self) -> list[tuple[Run, Attempt]]:
        """Return the runs that somebody works on, or has died over; none while one more death would park one.

        Processes of a job, and jobs of a node, die together, so that all of them are spared until that run has made
        progress or has been recorded.
        """
        attempts = [(run, self.on.attempts(run)) for run in self.runs]
        at_work = [(run, tried) for run, tried in attempts if tried and tried[-1].outcome is None]
        if any(self._is_near_parking(run, tried) for run, tried in at_work):
            return []
        return [(run, tried[-1]) for run, tried in at_work]

    def _is_near_parking(self, run: Run, tried: Sequence[Attempt]) -> bool:
        last = tried[-KILLS_UNTIL_PARKED:]
        in_vain = {attempt.checkpoint for attempt in last} == {checkpoint_time(self.on.at(run))}
        return len(last) == KILLS_UNTIL_PARKED and in_vain and all(attempt.outcome is None for attempt in last)

    def job_at_work(self) -> tuple[Run, str] | None:
        jobs = [(run, attempt.job) for run, attempt in self.at_work() if attempt.job]
        return self.random.choice(jobs) if jobs else None

    def later(self, seconds: float, undo: Callable[[], None], *, surroundings: bool = False) -> None:
        self.mends.append(Mend(time.monotonic() + seconds, undo, surroundings))

    def surroundings_broken(self) -> bool:
        return any(mend.surroundings for mend in self.mends)

    def mend(self, *, everything: bool = False) -> None:
        """Undo the faults whose time has come, or all of them."""
        for mend in [m for m in self.mends if everything or m.due <= time.monotonic()]:
            self.mends.remove(mend)
            with suppress(AssertionError, OSError):  # Slurm may be away just now; `up` mends the rest
                mend.undo()

    def strike(self) -> str:
        """Do the next fault of a shuffled deck, so that every kind comes, and say which."""
        if not self._deck:
            self._deck = [f for f in FAULTS if self.executor in f.executors for _ in range(f.cards)]
            self.random.shuffle(self._deck)
        fault = self._deck.pop()
        try:
            message = fault.strike(self)
        except (
            AssertionError,
            OSError,
            subprocess.CalledProcessError,
        ) as error:  # nothing to break any more, or Slurm is just not there
            return f"{fault.name}: {' '.join(str(error).split())[:150]}"
        self.struck[fault.name] += bool(message)
        return f"{fault.name}: {message or 'nothing to break'}"


def kill_worker(shaken: Shaken) -> str:
    working = shaken.at_work()
    if not working:
        return ""
    run, attempt = shaken.random.choice(working)
    os.kill(attempt.pid, signal.SIGKILL)
    return run.id


def freeze_worker(shaken: Shaken) -> str:
    """Stop a worker for longer than its lease; it wakes up as a zombie that owns nothing."""
    working = shaken.at_work()
    if not working:
        return ""
    run, attempt = shaken.random.choice(working)
    os.kill(attempt.pid, signal.SIGSTOP)
    shaken.later(12, lambda: os.kill(attempt.pid, signal.SIGCONT))
    return run.id


def requeue_job(shaken: Shaken) -> str:
    if not (working := shaken.job_at_work()):
        return ""
    shaken.cluster.run("scontrol", "requeue", working[1])
    return working[0].id


def lose_job(shaken: Shaken) -> str:
    """Kill a worker whose job may not be queued again, as with ``requeue = false``."""
    working = [(run, attempt) for run, attempt in shaken.at_work() if attempt.job]
    if not working:
        return ""
    run, attempt = shaken.random.choice(working)
    shaken.cluster.run("scontrol", "update", f"jobid={attempt.job}", "requeue=0")
    os.kill(attempt.pid, signal.SIGKILL)
    return run.id


def hold_job(shaken: Shaken) -> str:
    if not (working := shaken.job_at_work()):
        return ""
    job = working[1]
    shaken.cluster.run("scontrol", "requeuehold", job)
    shaken.later(8, lambda: _ignored(shaken.cluster.run("scontrol", "release", job)))
    return working[0].id


def fail_launch(shaken: Shaken) -> str:
    """Let no node launch a job that is queued again: Slurm holds it."""
    if not (working := shaken.job_at_work()):
        return ""
    raw = shaken.cluster.job_field(working[1], "JobId")
    shaken.cluster.run("scontrol", "requeue", working[1])
    unblock = block_launch(shaken.cluster, raw)
    shaken.later(15, unblock)
    return working[0].id


def block_launch(cluster: DevSlurm, job: str) -> Callable[[], None]:
    """Put files where nodes would make the spool folder of a job that was just queued again, by its own id; return what
    removes them."""
    files = [cluster.folder / "spool" / node / f"job{int(job):05d}" for node in NODES]
    cluster.until(lambda: not any(file.is_dir() for file in files), "the job has left its node", 8)
    for file in files:
        file.touch()

    def unblock() -> None:
        for file in files:
            if file.is_file():
                file.unlink()

    return unblock


def drain_node(shaken: Shaken) -> str:
    node = shaken.random.choice(NODES)
    shaken.cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=chaos")
    resume = ("scontrol", "update", f"nodename={node}", "state=resume")
    shaken.later(10, lambda: _ignored(shaken.cluster.run(*resume)))
    return node


def kill_node(shaken: Shaken) -> str:
    up = [node for node in NODES if shaken.cluster.node(node) in ("idle", "mixed", "allocated")]
    if len(up) < 3 or not shaken.at_work():
        return ""
    node = shaken.random.choice(up)
    shaken.cluster.control("kill-node", node)
    shaken.later(shaken.random.uniform(3, 20), lambda: _ignored(shaken.cluster.control("start-node", node)))
    return node


def kill_controller(shaken: Shaken) -> str:
    os.kill(int((shaken.cluster.folder / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
    time.sleep(shaken.random.uniform(0, 3))
    shaken.cluster.control("restart-controller")
    return "and started it again"


def fill_disk(shaken: Shaken) -> str:
    ballast = shaken.on.results.parent / "ballast"
    if shaken.surroundings_broken() or not os.path.ismount(ballast.parent):
        return ""
    with suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(b"\0" * 4096)
            file.flush()
    shaken.later(6, lambda: ballast.unlink(missing_ok=True), surroundings=True)
    return "for 6 s"


def hide_data(shaken: Shaken) -> str:
    return _away(shaken, shaken.on.data, 6)


def rename_results(shaken: Shaken) -> str:
    return _away(shaken, shaken.on.results, 20) if shaken.on.results.is_dir() else ""


def _away(shaken: Shaken, folder: Path, seconds: float) -> str:
    """Rename a folder for a while. What is written in its place meanwhile is put aside when it comes back."""
    if shaken.surroundings_broken():
        return ""
    away = folder.with_name(f"{folder.name}-away")
    folder.rename(away)

    def undo() -> None:
        if folder.exists():
            folder.rename(folder.with_name(f"{folder.name}-meanwhile-{time.monotonic_ns()}"))
        away.rename(folder)

    shaken.later(seconds, undo, surroundings=True)
    return f"for {seconds} s"


def step_clock(shaken: Shaken) -> str:
    step = shaken.random.choice((-3600, -30, -6, 6, 30, 3600))
    Path(shaken.on.env["CLOCK"]).write_text(str(step), encoding="ascii")
    return f"to {step:+} s"


def second_user(shaken: Shaken) -> str:
    """Let another user of the machine type the sweep, inline, in the same results folder."""
    if os.geteuid() != 0 or (shaken.guest and shaken.guest.poll() is None):
        return ""
    command = shaken.on.command(shaken.runs, "--executor", "inline")
    python = readable_python(shaken.on.folder.parent / "python")
    packages = os.pathsep.join([shaken.on.env["PYTHONPATH"], sysconfig.get_path("purelib")])
    libraries = str(python.parent.parent / "lib")  # of the copy, if it is one
    env = shaken.on.env | {"HOME": "/nonexistent", "PYTHONPATH": packages, "LD_LIBRARY_PATH": libraries}
    with (shaken.on.folder / "guest.log").open("ab") as log:
        shaken.guest = subprocess.Popen(
            [str(python), *command[1:]],
            cwd=ROOT,
            env=env,
            stdout=log,
            stderr=log,
            user=OTHER_USER,
            group=OTHER_USER,
            extra_groups=[],
            umask=0,
        )
    return "types the sweep"


def readable_python(place: Path) -> Path:
    """Return a Python that the other user may start: this one, or a copy in ``place`` where it is in a closed home."""
    try:
        subprocess.run([sys.executable, "-c", ""], user=OTHER_USER, group=OTHER_USER, check=True, capture_output=True)
        return Path(sys.executable)
    except (OSError, subprocess.CalledProcessError):
        pass
    base, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not place.exists():
        omitted = shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*")
        shutil.copytree(base / "lib" / version, place / "lib" / version, ignore=omitted)
        for library in (base / "lib").glob("libpython*.so*"):
            shutil.copy2(library, place / "lib")
        (place / "bin").mkdir()
        shutil.copy2(base / "bin" / version, place / "bin")
    return place / "bin" / version


def _ignored(output: str) -> None:
    """Let a function that prints stand where none is expected to return anything."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault: the executors that it concerns, and how often it is in the deck."""

    strike: Callable[[Shaken], str]
    executors: tuple[str, ...] = ("slurm", "local", "inline")
    cards: int = 1

    @property
    def name(self) -> str:
        return self.strike.__name__


SLURM = ("slurm",)
FAULTS = (
    Fault(kill_worker, cards=2),
    Fault(freeze_worker),
    Fault(requeue_job, SLURM, cards=2),
    Fault(lose_job, SLURM),
    Fault(hold_job, SLURM),
    Fault(fail_launch, SLURM),
    Fault(drain_node, SLURM),
    Fault(kill_node, SLURM),
    Fault(kill_controller, SLURM),
    Fault(fill_disk),
    Fault(hide_data),
    Fault(step_clock),
    Fault(second_user),
    Fault(rename_results),
)
