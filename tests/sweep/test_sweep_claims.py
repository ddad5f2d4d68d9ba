"""Claims: one process works on a run; the claims of dead ones are taken over, by one, whatever any clock says."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.events import OwnershipLost
from bench.files import create_once
from bench.sweep import claims
from bench.sweep.claim_files import current, this_process
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.processes import start_ticks


class Clock:
    """An observer's own clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "some-run" / "claim"


def held_by(folder: Path, number: int = 1, **who: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / str(number)
    path.write_text(json.dumps(asdict(replace(this_process(), **who))))
    return path


def numbers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(claims.DRAFTS)]


def test_one_at_a_time_and_given_back(folder: Path) -> None:
    observer = ClaimObserver()
    for number in (1, 2):
        with acquire(folder, observer) as lease:
            assert lease is not None
            assert observer.is_held(folder)
            assert acquire(folder, ClaimObserver()) is None
            lease.check()
        assert not observer.is_held(folder)
        assert [path.name for path in folder.iterdir()] == [str(number)]  # numbers never come back


def test_given_back_when_the_run_raises(folder: Path) -> None:
    lease = acquire(folder, ClaimObserver())
    assert lease is not None
    with pytest.raises(KeyboardInterrupt), lease:
        raise KeyboardInterrupt
    assert not ClaimObserver().is_held(folder)


@pytest.mark.parametrize(
    "who",
    [
        {"host": "elsewhere", "pid": 2**22 - 1},
        {"pid": os.getppid(), "ticks": start_ticks(os.getppid())},
    ],
    ids=["another host", "a living process"],
)
def test_claims_that_may_be_alive_are_respected(folder: Path, who: dict[str, object]) -> None:
    held_by(folder, **who)
    assert ClaimObserver().is_held(folder)
    assert acquire(folder, ClaimObserver()) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "old version"}'])
def test_an_unreadable_claim_is_respected(folder: Path, content: str) -> None:
    held_by(folder).write_text(content)
    assert acquire(folder, ClaimObserver()) is None


def test_the_claim_of_a_killed_process_is_taken_over_at_once_on_its_host(folder: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from bench.sweep.claims import ClaimObserver, acquire
with acquire(Path(sys.argv[1]), ClaimObserver()):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    claim = current(folder)
    assert claim is not None
    assert claim.held
    assert not ClaimObserver().is_held(folder)
    assert acquire(folder, ClaimObserver()) is not None


def test_a_process_id_that_came_again_does_not_hold_the_claim(folder: Path) -> None:
    held_by(folder, pid=os.getpid(), ticks=this_process().ticks - 1000)
    assert acquire(folder, ClaimObserver()) is not None


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0], ids=["slow", "right", "fast"])
def test_another_host_is_judged_by_its_beats_and_not_by_its_clock(folder: Path, skew: float) -> None:
    """The file's times are those of a clock that is wrong: what counts is whether they change."""
    path = held_by(folder, host="elsewhere", lease=30.0)
    clock, beat = Clock(), time.time() + skew
    observer = ClaimObserver(clock)

    def verdict(after: float, beats: bool) -> str:
        nonlocal beat
        clock.now += after
        if beats:
            beat += after
        os.utime(path, (beat, beat))
        claim = current(folder)
        assert claim is not None
        return observer.verdict(claim)

    assert [verdict(4, False) for _ in range(2)] == ["unknown", "unknown"]
    assert [verdict(20, True) for _ in range(9)] == ["alive"] * 9
    assert verdict(29, False) == "alive"
    assert verdict(2, False) == "dead"
    lease = acquire(folder, observer)
    assert lease is not None
    assert numbers(folder) == ["2"]


def test_a_host_whose_clock_jumps_keeps_its_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = acquire(folder, ClaimObserver())
    assert lease is not None
    monkeypatch.setattr(time, "time", lambda: 0.0)
    lease.renew()
    lease.check()
    assert acquire(folder, ClaimObserver()) is None


def test_the_claim_says_for_how_long_it_lasts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_by(folder, host="elsewhere", lease=300.0)
    clock = Clock()
    observer = ClaimObserver(clock)
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", "1")
    observer.is_held(folder)
    clock.now += 299
    assert observer.is_held(folder)
    clock.now += 2
    assert not observer.is_held(folder)


@pytest.mark.parametrize("text", ["0", "-3", "soon"])
def test_a_wrong_lease_is_one_clear_error(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", text)
    with pytest.raises(UsageError, match="VLPET_BENCH_LEASE_SECONDS"):
        acquire(folder, ClaimObserver())


def test_of_many_who_find_a_claim_dead_one_takes_it(folder: Path) -> None:
    held_by(folder, pid=2**22 - 1)
    start, won = threading.Barrier(8), []

    def try_it() -> None:
        start.wait()
        if lease := acquire(folder, ClaimObserver()):
            won.append(lease)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert numbers(folder) == ["2"]


def test_one_who_was_asleep_while_others_took_over_does_not_get_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It judged claim 1 dead; before it can create claim 2, others have got as far as claim 3."""
    held_by(folder, pid=2**22 - 1)

    def slowly(path: Path, content: bytes) -> bool:
        (folder / "1").unlink()
        held_by(folder, number=3)
        return create_once(path, content)

    monkeypatch.setattr(claims, "create_once", slowly)
    assert acquire(folder, ClaimObserver()) is None
    assert numbers(folder) == ["3"]


@pytest.mark.parametrize("how", ["taken over", "taken over and given back", "folder deleted"])
def test_an_owner_finds_out_that_the_run_is_lost(folder: Path, how: str) -> None:
    lease = acquire(folder, ClaimObserver())
    assert lease is not None
    with lease:
        lease.check()
        if how == "taken over":  # the other has not come to removing our file
            held_by(folder, number=2)
        else:
            lease.path.unlink()
        if how == "taken over and given back":
            held_by(folder, number=5, released=True)
        lease.renew()
        with pytest.raises(OwnershipLost):
            lease.check()
        with pytest.raises(KeyboardInterrupt):
            lease.check()
    assert "1" not in {path.name for path in folder.iterdir()} or how == "taken over"


def test_a_process_that_slept_looks_before_it_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = acquire(folder, ClaimObserver())
    assert lease is not None
    held_by(folder, number=2)
    lease.check()  # it has just looked
    now = claims._now()
    monkeypatch.setattr(claims, "_now", lambda: now + lease.owner.lease / 2)
    with pytest.raises(OwnershipLost):
        lease.check()


def test_beats_go_on_by_themselves_and_carry_messages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", "0.3")
    lease = acquire(folder, ClaimObserver())
    assert lease is not None
    answers = iter([RuntimeError("out of order"), None, "cancelled"])

    def on_beat() -> str | None:
        if isinstance(what := next(answers), Exception):
            raise what
        return what

    lease.on_beat = on_beat
    observer = ClaimObserver()
    with lease:
        for _ in range(8):
            time.sleep(0.1)
            assert observer.is_held(folder)
        assert lease.stop == "cancelled"
        lease.check()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UsageError, match="--results"):
        acquire(tmp_path / "runs" / "x" / "claim", ClaimObserver())


def test_no_step_of_a_clock_makes_a_living_owner_on_this_host_look_dead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start time of a process in seconds since the epoch moves with every step, so it is not looked at."""
    held_by(folder, pid=os.getppid(), ticks=start_ticks(os.getppid()))
    real = time.time
    for step in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda step=step: real() + step)
        monkeypatch.setattr("psutil.boot_time", lambda step=step: real() + step)
        monkeypatch.setattr("psutil.Process.create_time", lambda self, step=step: step)
        assert ClaimObserver().is_held(folder)
        assert acquire(folder, ClaimObserver()) is None


@pytest.mark.parametrize("ticks", [None, -1])
def test_an_owner_of_an_earlier_version_is_judged_by_its_beats(folder: Path, ticks: int | None) -> None:
    """Its claim has a start time in seconds since the epoch."""
    path = held_by(folder, pid=os.getppid())
    owner = {**json.loads(path.read_text()), "started": 1.0e9}
    del owner["ticks"]
    path.write_text(json.dumps(owner | ({} if ticks is None else {"ticks": ticks})))
    claim = current(folder)
    assert claim is not None and claim.owner.pid == os.getppid()
    assert ClaimObserver().verdict(claim) == "unknown"


def test_an_owner_that_was_silent_for_longer_than_its_lease_is_watched_for_a_few_beats(folder: Path) -> None:
    path, clock = held_by(folder, host="elsewhere", lease=100.0), Clock()
    os.utime(path, (time.time() - 600, time.time() - 600))
    observer = ClaimObserver(clock)
    claim = current(folder)
    assert claim is not None
    assert observer.verdict(claim) == "unknown" and 590 < observer.silence(claim) < 660
    clock.now += 19
    assert observer.verdict(claim) == "unknown"
    clock.now += 2
    assert observer.verdict(claim) == "dead"
    assert [item.name for item in folder.iterdir()] == ["1"]


def test_a_step_of_the_file_system_s_clock_costs_no_living_owner_its_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = held_by(folder, host="elsewhere", lease=90.0), Clock()
    monkeypatch.setattr(claims, "_age", lambda claim: 3600.0)
    observer = ClaimObserver(clock)
    assert observer.is_held(folder)
    for beat in range(1, 20):
        clock.now += 6
        os.utime(path, (beat, beat))
        claim = current(folder)
        assert claim is not None and observer.verdict(claim) == "alive"
