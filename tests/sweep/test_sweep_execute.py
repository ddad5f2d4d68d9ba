"""Working through a sweep: each run once, failures stay where they are, interruptions can be gone on with."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import fake_runs
import pytest

from bench.config import Execution, Run, resolve
from bench.events import Listener, RunEvent, RunHold
from bench.record_schema import Record
from bench.run_dir import RunDir
from bench.states import NEVER, UNTIL_PARKED
from bench.sweep import attempts
from bench.sweep.claim_files import current, this_process
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.execute import begin_anew, work_through
from bench.sweep.run_state import state


def make(seed: int) -> Run:
    return resolve("mini-bart", "lora", "image-text", seed=seed)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    return [make(seed) for seed in range(1, 8)]


def states(results: Path, runs: list[Run]) -> list[str]:
    return [" ".join([current.name, current.note]).strip() for current in (state(results, run) for run in runs)]


def test_every_failure_keeps_its_cause_and_the_rest_goes_on(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes = dict(zip(("2", "3", "4", "5", "6"), fake_runs.ERRORS, strict=True))
    monkeypatch.setenv("FAKE_RUNS", json.dumps(causes))
    work_through(runs, Execution(), tmp_path, retry=NEVER)
    assert states(tmp_path, runs) == ["done", *(f"failed {cause}" for cause in causes.values()), "done"]


def test_a_second_time_nothing_is_done_and_failures_only_if_asked(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"2": "oom"}')
    for _ in range(2):
        work_through(runs, Execution(), tmp_path, retry=NEVER)
    assert len(fake_runs.ledger(tmp_path)) == len(runs)
    monkeypatch.delenv("FAKE_RUNS")
    assert begin_anew(runs[1], tmp_path)
    work_through(runs, Execution(), tmp_path)
    assert [row[0] for row in fake_runs.ledger(tmp_path)] == [*(run.id for run in runs), runs[1].id]
    assert states(tmp_path, runs) == ["done"] * len(runs)
    assert (RunDir(tmp_path, runs[1].id).path / "attempt-1" / "record.json").exists()


def test_corrupt_runs_are_done_again(runs: list[Run], tmp_path: Path) -> None:
    work_through(runs, Execution(), tmp_path)
    RunDir(tmp_path, runs[0].id).record.write_text("{")
    RunDir(tmp_path, runs[1].id).weights.write_bytes(b"\x09")
    assert [state(tmp_path, run).name for run in runs[:3]] == ["corrupt", "corrupt", "done"]
    work_through(runs, Execution(), tmp_path)
    assert [row[0] for row in fake_runs.ledger(tmp_path)][len(runs) :] == [runs[0].id, runs[1].id]
    assert states(tmp_path, runs) == ["done"] * len(runs)


def test_an_interruption_stops_the_sweep_and_the_run_can_be_gone_on_with(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"2": "interrupt"}')
    with pytest.raises(KeyboardInterrupt):
        work_through(runs, Execution(), tmp_path)
    folder = RunDir(tmp_path, runs[1].id)
    assert states(tmp_path, runs[:3]) == ["done", "interrupted SIGINT", "missing"]
    assert folder.checkpoint.exists()
    assert not ClaimObserver().is_held(folder.claim)
    monkeypatch.delenv("FAKE_RUNS")
    work_through(runs, Execution(), tmp_path)
    assert states(tmp_path, runs) == ["done"] * len(runs)
    assert not list(folder.path.glob("attempt-*"))


def test_processes_at_work_on_one_folder_do_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make(seed) for seed in range(1, 25)]
    for dead in runs[:12]:  # claims of a dead process, which all want to take over
        folder = RunDir(tmp_path, dead.id).claim
        folder.mkdir(parents=True)
        (folder / "1").write_text(json.dumps(asdict(replace(this_process(), pid=2**22 - 1, ticks=1))))
    monkeypatch.setenv("FAKE_SECONDS", "0.02")
    fake_runs.also_in_workers(tmp_path / "site", monkeypatch)
    code = """
import sys
from dataclasses import asdict, replace
from pathlib import Path
from bench.config import Execution, resolve
from bench.sweep.execute import work_through
runs = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in range(1, 25)]
print("ready", flush=True)
sys.stdin.readline()
work_through(runs, Execution(), Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(row[0] for row in fake_runs.ledger(tmp_path)) == sorted(run.id for run in runs)
    assert states(tmp_path, runs) == ["done"] * len(runs)
    assert {len(list(folder.iterdir())) for folder in tmp_path.glob("runs/*/claim")} == {1}
    # Claim 2 took over from the dead; each of the other two may claim once more after its record, and finds it done.
    assert {current(RunDir(tmp_path, run.id).claim).number for run in runs[:12]} <= {2, 3, 4}


def test_every_attempt_is_written_down_with_its_reason(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunDir(tmp_path, runs[1].id)
    for what in ("interrupt", "oom"):
        monkeypatch.setenv("FAKE_RUNS", json.dumps({"2": what}))
        with contextlib.suppress(KeyboardInterrupt):
            work_through(runs[1:2], Execution(), tmp_path, retry=NEVER)
    endings = [(a.number, a.outcome, a.reason) for a in attempts.read(folder)]
    assert endings == [(1, "interrupted", "SIGINT"), (2, "failed", "no more")]
    assert attempts.read(folder)[1].kind == "train: MemoryError"
    monkeypatch.delenv("FAKE_RUNS")
    begin_anew(runs[1], tmp_path)
    work_through(runs[1:2], Execution(), tmp_path)
    assert [a.outcome for a in attempts.read(folder)] == ["done"]
    assert len(list((folder.path / "attempt-1" / "attempts").iterdir())) == 2


def test_a_run_that_fails_twice_in_the_same_way_is_parked(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"1": "error", "2": "oom", "3": "nan"}')
    work_through(runs[:4], Execution(), tmp_path, retry=UNTIL_PARKED)
    assert states(tmp_path, runs[:4]) == ["parked error", "parked oom", "failed nan", "done"]
    count = [sum(row[0] == run.id for row in fake_runs.ledger(tmp_path)) for run in runs[:4]]
    assert count == [2, 2, 1, 1]  # a loss that is not finite is so every time
    work_through(runs[:4], Execution(), tmp_path, retry=UNTIL_PARKED)
    assert len(fake_runs.ledger(tmp_path)) == sum(count)


def test_a_run_that_fails_once_and_then_succeeds_is_done(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"1": "oom"}')
    work_through(runs[:1], Execution(), tmp_path, retry=NEVER)
    monkeypatch.delenv("FAKE_RUNS")
    work_through(runs[:1], Execution(), tmp_path, retry=UNTIL_PARKED)
    assert states(tmp_path, runs[:1]) == ["done"]
    assert [a.outcome for a in attempts.read(RunDir(tmp_path, runs[0].id))] == ["failed", "done"]


def dies(folder: RunDir, checkpoint: int | None = None) -> None:
    """An attempt that is killed, after it wrote a checkpoint or not."""
    folder.path.mkdir(parents=True, exist_ok=True)
    attempts.begin(folder, this_process(), None)
    if checkpoint is not None:
        folder.checkpoint.write_text("")
        os.utime(folder.checkpoint, ns=(checkpoint, checkpoint))


def test_a_run_whose_processes_die_again_and_again_is_parked(runs: list[Run], tmp_path: Path) -> None:
    folder = RunDir(tmp_path, runs[0].id)
    for _ in range(attempts.KILLS_UNTIL_PARKED - 1):
        dies(folder)
    assert not attempts.kills_in_a_row(folder)
    dies(folder)
    work_through(runs[:2], Execution(), tmp_path)
    assert states(tmp_path, runs[:2]) == ["parked error", "done"]
    record = folder.read()
    assert record is not None
    assert record.error is not None
    assert record.error.type == "WorkerDied"
    assert f"killed {attempts.KILLS_UNTIL_PARKED} times" in record.error.message
    assert len(fake_runs.ledger(tmp_path)) == 1


def test_a_run_that_gets_further_each_time_is_not_parked(runs: list[Run], tmp_path: Path) -> None:
    folder = RunDir(tmp_path, runs[0].id)
    for number in range(3 * attempts.KILLS_UNTIL_PARKED):
        dies(folder, checkpoint=10**18 + number)
    work_through(runs[:1], Execution(), tmp_path)
    assert states(tmp_path, runs[:1]) == ["done"]


def test_a_cancelled_run_is_left_alone_until_it_is_asked_for_again(runs: list[Run], tmp_path: Path) -> None:
    folder = RunDir(tmp_path, runs[0].id)
    folder.path.mkdir(parents=True)
    folder.cancelled.touch()
    work_through(runs[:2], Execution(), tmp_path)
    assert states(tmp_path, runs[:2]) == ["cancelled", "done"]
    begin_anew(runs[0], tmp_path)
    work_through(runs[:2], Execution(), tmp_path)
    assert states(tmp_path, runs[:2]) == ["done", "done"]


def test_a_second_sweep_waits_for_the_first_and_takes_over_what_it_leaves(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.sweep.execute.POLL_SECONDS", 0.02)
    lease = acquire(RunDir(tmp_path, runs[0].id).claim, ClaimObserver())
    assert lease is not None
    notes: list[str] = []

    def give_back(event: RunEvent) -> None:
        if event.kind == "note":
            notes.append(event.message)
            assert states(tmp_path, runs[:2]) == ["running", "done"]
            lease.__exit__(None, None, None)

    lease.__enter__()
    work_through(runs[:2], Execution(), tmp_path, give_back)
    assert notes == ["1 runs are other processes'; waiting for them"]
    assert states(tmp_path, runs[:2]) == ["done", "done"]


def test_a_worker_on_a_cluster_does_not_wait_for_a_living_owner(runs: list[Run], tmp_path: Path) -> None:
    with acquire(RunDir(tmp_path, runs[0].id).claim, ClaimObserver()) as lease:
        assert lease
        work_through(runs[:2], Execution(), tmp_path, wait=False)
        assert states(tmp_path, runs[:2]) == ["running", "done"]


def test_a_run_that_was_taken_over_writes_nothing_more(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first process trains, another takes the claim and finishes the run."""
    folder = RunDir(tmp_path, runs[0].id)
    other: list[str] = []

    def robbed(run: Run, execution: Execution, results: Path, report: Listener, hold: RunHold) -> Record:
        claim = current(folder.claim)
        assert claim is not None
        robber = replace(this_process(), pid=os.getpid())
        (folder.claim / str(claim.number + 1)).write_text(json.dumps(asdict(robber)))
        fake_runs.run_one(run, execution, results)
        other.append(folder.record.read_text())
        (folder.claim / str(claim.number + 1)).write_text(json.dumps(asdict(replace(robber, released=True))))
        hold.renew()
        return fake_runs.run_one(run, execution, results, report, hold)

    monkeypatch.setattr("bench.run.run_one", robbed)
    events: list[RunEvent] = []
    work_through(runs[:1], Execution(), tmp_path, events.append)
    assert folder.record.read_text() == other[0]
    assert ["taken" in event.message for event in events] == [True]
    assert len(fake_runs.ledger(tmp_path)) == 1
    assert [a.outcome for a in attempts.read(folder)] == [None]
