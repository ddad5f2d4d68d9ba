"""Working through a sweep: each run once, failures stay where they are, interruptions can be gone on with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fake_runs
import pytest

from bench.config import Execution, Run, resolve
from bench.records import Folder
from bench.sweep.execute import work_through
from bench.sweep.states import state


def make(seed: int) -> Run:
    return resolve("mini-bart", "lora", "image-text", seed=seed)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    return [make(seed) for seed in range(1, 8)]


def states(results: Path, runs: list[Run]) -> list[str]:
    return [" ".join([found.name, found.note]).strip() for found in (state(results, run) for run in runs)]


def test_every_failure_keeps_its_cause_and_the_rest_goes_on(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes = dict(zip(("2", "3", "4", "5", "6"), fake_runs.ERRORS, strict=True))
    monkeypatch.setenv("FAKE_RUNS", json.dumps(causes))
    work_through(runs, Execution(), tmp_path)
    assert states(tmp_path, runs) == ["done", *(f"failed {cause}" for cause in causes.values()), "done"]


def test_a_second_time_nothing_is_done_and_failures_only_if_asked(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"2": "oom"}')
    for _ in range(2):
        work_through(runs, Execution(), tmp_path)
    assert len(fake_runs.ledger(tmp_path)) == len(runs)
    monkeypatch.delenv("FAKE_RUNS")
    work_through(runs, Execution(), tmp_path, retry_failed=True)
    assert [row[0] for row in fake_runs.ledger(tmp_path)] == [*(run.id for run in runs), runs[1].id]
    assert states(tmp_path, runs) == ["done"] * len(runs)
    assert (Folder(tmp_path, runs[1].id).path / "attempt-1" / "record.json").exists()


def test_corrupt_runs_are_done_again(runs: list[Run], tmp_path: Path) -> None:
    work_through(runs, Execution(), tmp_path)
    Folder(tmp_path, runs[0].id).record.write_text("{")
    Folder(tmp_path, runs[1].id).weights.write_bytes(b"\x09")
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
    folder = Folder(tmp_path, runs[1].id)
    assert states(tmp_path, runs[:3]) == ["done", "interrupted", "missing"]
    assert folder.checkpoint.exists()
    assert not folder.claim.exists()
    monkeypatch.delenv("FAKE_RUNS")
    work_through(runs, Execution(), tmp_path)
    assert states(tmp_path, runs) == ["done"] * len(runs)
    assert not list(folder.path.glob("attempt-*"))


def test_processes_at_work_on_one_folder_do_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make(seed) for seed in range(1, 25)]
    for dead in runs[:12]:  # claims of a dead process, which both want to take over
        Folder(tmp_path, dead.id).path.mkdir(parents=True)
        held = {"host": os.uname().nodename, "pid": 2**22 - 1, "started": 1.0}
        Folder(tmp_path, dead.id).claim.write_text(json.dumps(held))
    monkeypatch.setenv("FAKE_SECONDS", "0.02")
    fake_runs.also_in_workers(tmp_path / "site", monkeypatch)
    code = """
import sys
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
    assert not list(tmp_path.glob("runs/*/claim.json"))
