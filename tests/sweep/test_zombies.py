"""Processes that are stopped at the worst moment, lose their run, and wake up: what they do then changes nothing."""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import fake_runs
import pytest

from bench.config import Execution, Run, resolve
from bench.events import OwnershipLost
from bench.run_dir import RunDir
from bench.states import NEVER
from bench.sweep import attempts
from bench.sweep.claims import ClaimObserver, Lease, acquire
from bench.sweep.execute import work_through
from bench.sweep.leftovers import find_leftovers, remove_leftovers
from bench.sweep.run_state import state

RUN = resolve("mini-bart", "lora", "image-text")
LEASE = "0.3"
GROUP = 4210  # of two users that are numbers only


def record_of(folder: RunDir) -> object:
    return fake_runs.Record(id=RUN.id, run=RUN, status="failed", cause="nan", finished="by the zombie")


WRITES: dict[str, Callable[[RunDir, Lease], object]] = {
    "a row of the curve": lambda folder, lease: folder.append(folder.curve, {"step": 7, "loss": 0.5}),
    "a checkpoint": lambda folder, lease: folder.write(folder.checkpoint, b"of the zombie"),
    "weights": lambda folder, lease: folder.save_weights(lambda path: path.write_bytes(b"zombie"), folder.weights),
    "predictions": lambda folder, lease: folder.write_predictions("gqa", [{"id": "1"}]),
    "predictions of a further split": lambda folder, lease: folder.create(folder.path / "predictions/x.gz", b"zombie"),
    "the record": lambda folder, lease: folder.finish(record_of(folder)),
    "beginning again": lambda folder, lease: folder.begin(RUN.model_copy(update={"label": "of the zombie"})),
    "putting aside": lambda folder, lease: folder.put_aside(keep=(folder.claim,), last=folder.record),
    "removing": lambda folder, lease: folder.remove(folder.curve),
    "progress": lambda folder, lease: folder.write_json(folder.progress, {"of": "the zombie"}),
    "the end of its attempt": lambda folder, lease: attempts.end(
        folder, attempts.Attempt(number=1, begun="", host="", pid=0), "failed"
    ),
}


def contents(folder: RunDir) -> dict[str, bytes]:
    files = (path for path in folder.path.rglob("*") if path.is_file() and folder.claim not in path.parents)
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in files}


def stopped_before_renames(function: Callable[[], object]) -> int:
    """Start a process that stops itself before its first rename or link; its exit code says if it has lost the run."""
    child = os.fork()
    if child:
        os.waitpid(child, os.WUNTRACED)
        return child
    code, real = 1, {name: getattr(os, name) for name in ("rename", "replace", "link")}

    def stop(name: str) -> Callable[..., None]:
        def patched(*paths: object) -> None:
            for other in real:
                setattr(os, other, real[other])
            os.kill(os.getpid(), signal.SIGSTOP)
            real[name](*paths)

        return patched

    try:
        for name in real:
            setattr(os, name, stop(name))
        function()
        code = 0
    except OwnershipLost:
        code = 75
    finally:
        os._exit(code)


@pytest.mark.parametrize("what", WRITES)
def test_a_write_between_check_and_rename_does_not_land(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", LEASE)
    monkeypatch.setattr("bench.sweep.execute.POLL_SECONDS", 0.02)
    folder = RunDir(tmp_path, RUN.id)
    folder.begin(RUN)
    folder.append(folder.curve, {"step": 1, "loss": 1.0})
    (folder.path / "predictions").mkdir(exist_ok=True)
    lease = acquire(folder.claim, ClaimObserver())
    assert lease is not None
    zombie = RunDir(tmp_path, RUN.id, lease)
    child = stopped_before_renames(lambda: WRITES[what](zombie, lease))
    try:
        lease.owner = lease.owner.__class__(**{**vars(lease.owner), "pid": child})
        time.sleep(float(LEASE))
        assert work_through([RUN], Execution(), tmp_path) == []
        assert state(tmp_path, RUN).name == "done"
        before = contents(folder)
    finally:
        os.kill(child, signal.SIGCONT)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 75
    assert contents(folder) == before
    assert [path.name for path in folder.claim.iterdir()] == ["2"]


def test_what_was_being_put_aside_by_a_process_that_died_comes_back(tmp_path: Path) -> None:
    folder = RunDir(tmp_path, RUN.id)
    fake_runs.run_one(RUN, Execution(), tmp_path)
    lease = acquire(folder.claim, ClaimObserver())
    assert lease is not None
    before = contents(folder)
    staging = lease.drafts / "aside.0123456789ab"
    staging.mkdir()
    folder.weights.rename(staging / folder.weights.name)
    (folder.claim / "1").unlink()  # as if it had been judged dead
    second = acquire(folder.claim, ClaimObserver())
    assert second is not None
    with second, pytest.raises(OwnershipLost):
        RunDir(tmp_path, RUN.id, lease).append(folder.curve, {"step": 1})
    after = contents(folder)
    assert after.pop("attempt-1/weights.safetensors") == before.pop("weights.safetensors")
    assert after == before


class Driver:
    """A process that works through runs, stopped and gone on with by whoever made it."""

    def __init__(self, runs: list[Run], results: Path, user: int | None = None, dies_after: int | None = None) -> None:
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            if user is not None:
                os.umask(0o002)
                os.setgroups([])
                os.setgid(GROUP)
                os.setuid(user)
            if dies_after is not None:
                die_after(dies_after)
            faults = work_through(runs, Execution(), results, retry=NEVER)
            code = 2 if faults else 0
        finally:
            os._exit(code)

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def die_after(count: int) -> None:
    """Let this process die before a change of the file system, as by ``kill -9``."""
    left = [count]

    def deadly(real: Callable[..., object]) -> Callable[..., object]:
        def patched(*arguments: object, **more: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return patched

    for name in ("rename", "replace", "link", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, deadly(getattr(os, name)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", LEASE)
    monkeypatch.setattr("bench.sweep.execute.POLL_SECONDS", 0.02)


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that other users may look into; pytest closes its own whenever it starts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def check_all_done(runs: list[Run], results: Path) -> None:
    for run in runs:
        folder = RunDir(results, run.id)
        if leftovers := find_leftovers(folder, ClaimObserver()):  # a process was killed between its record and its end
            remove_leftovers(folder, leftovers)
        record = folder.read()
        assert record is not None and record.status == "done"
        assert [path.name for path in folder.path.glob("attempt-*")] == []
        assert folder.read_predictions("gqa") == []
        assert len(list(folder.claim.iterdir())) == 1
        assert not folder.drafts() and not folder.progress.exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(3))
def test_whatever_moment_a_process_is_killed_at_the_next_one_finishes(seed: int, tmp_path: Path) -> None:
    """Every 12th change of the file system is the last one of a process, another one at each seed."""
    run = [RUN]
    for count in range(seed, 60, 12):
        results = tmp_path / str(count)
        killed = Driver(run, results, dies_after=count).wait()
        assert killed in (0, -signal.SIGKILL)
        assert work_through(run, Execution(), results) == []
        if state(results, RUN).name == "parked":
            continue
        check_all_done(run, results)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("users", [None, (4211, 4212)], ids=["one user", "two users"])
@pytest.mark.parametrize("seed", range(2))
def test_drivers_that_are_stopped_at_random_lose_nothing(
    seed: int, users: tuple[int, int] | None, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if users and os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    draw = random.Random(seed)
    monkeypatch.setenv("FAKE_SECONDS", "0.01")
    results = outside / "results"
    results.mkdir()
    if users:
        os.chown(results, 0, GROUP)
        results.chmod(0o2775)
    runs = [resolve("mini-bart", "lora", "image-text", seed=number) for number in range(1, 7)]
    drivers = [Driver(runs, results, user=users[index] if users else None) for index in (0, 1)]
    ended: dict[int, int] = {}
    begun = time.monotonic()
    while len(ended) < 2 and time.monotonic() - begun < 60:
        driver = draw.choice(drivers)
        driver.signal(signal.SIGSTOP)
        time.sleep(draw.choice([0.0, 0.01, 2 * float(LEASE)]))
        driver.signal(signal.SIGCONT)
        time.sleep(draw.uniform(0, 0.05))
        for driver in drivers:
            if driver.pid not in ended:
                pid, status = os.waitpid(driver.pid, os.WNOHANG)
                ended |= {pid: os.waitstatus_to_exitcode(status)} if pid else {}
    assert len(ended) == 2
    assert set(ended.values()) == {0}
    check_all_done(runs, results)
