"""Worker processes: never more than asked for, a dead one costs one run, an interruption leaves checkpoints."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_runs
import pytest

from bench.cli.progress import Progress
from bench.config import Execution, Run, resolve
from bench.events import RunEvent
from bench.run_dir import RunDir
from bench.states import NEVER
from bench.sweep import attempts, local_workers
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.local_workers import gpus, run_in_workers
from bench.sweep.progress_file import ProgressFile
from bench.sweep.run_follower import RunFollower
from bench.sweep.run_state import state
from bench.sweep.worker import REQUEUE, TERMINATED, Pack

CPU = Execution(device="cpu")


def make(seed: int) -> Run:
    return resolve("mini-bart", "lora", "image-text", seed=seed)


@pytest.fixture(autouse=True)
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.also_in_workers(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(local_workers, "POLL_SECONDS", 0.05)


def test_every_run_once_and_never_more_than_so_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.2")
    monkeypatch.setenv("FAKE_RUNS", '{"3": "nan"}')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    runs, events = [make(seed) for seed in range(1, 9)], []
    run_in_workers(runs, Execution(), tmp_path, jobs=2, report=events.append)
    ledger = fake_runs.ledger(tmp_path)
    assert sorted(row[0] for row in ledger) == sorted(run.id for run in runs)
    assert [state(tmp_path, run).note for run in runs] == ["", "", "nan", "", "", "", "", ""]
    at_once = [sum(begin <= moment < end for _, begin, end, _ in ledger) for _, moment, _, _ in ledger]
    assert max(at_once) == 2
    assert {row[3] for row in ledger} == {"4", "6"}
    ends = [event for event in events if event.kind == "end"]
    assert sorted(event.run_id for event in ends) == sorted(run.id for run in runs)
    assert {event.message for event in ends} == {"done", "failed: nan"}


def test_a_worker_that_is_killed_costs_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"2": "kill"}')
    runs, notes = [make(seed) for seed in range(1, 5)], []
    run_in_workers(runs, CPU, tmp_path, jobs=1, report=lambda event: notes.append(event.message))
    assert sum("was killed" in note for note in notes) == attempts.KILLS_UNTIL_PARKED
    assert [state(tmp_path, run).name for run in runs] == ["done", "parked", "done", "done"]
    record = RunDir(tmp_path, runs[1].id).read()
    assert record is not None
    assert record.error is not None
    assert (record.cause, record.error.type) == ("error", "WorkerDied")


def test_workers_go_on_where_another_results_folder_took_the_place_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, start = tmp_path / "results", local_workers.WorkerPool.start

    def replaced(pool: local_workers.WorkerPool, count: int) -> None:
        results.rename(tmp_path / "away")
        results.mkdir()
        monkeypatch.setattr(local_workers.WorkerPool, "start", start)
        pool.start(count)

    monkeypatch.setattr(local_workers.WorkerPool, "start", replaced)
    run_in_workers([make(1)], CPU, results, jobs=1)
    assert state(results, make(1)).name == "done"


def test_workers_that_die_before_they_begin_a_run_are_not_replaced_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_workers, "work_command", lambda *words: "sh -c 'kill -9 $$'")
    monkeypatch.setattr(local_workers, "POLL_SECONDS", 0.05)
    notes: list[str] = []
    run_in_workers([make(1)], CPU, tmp_path, jobs=1, report=lambda event: notes.append(event.message))
    assert "workers died before they began a run; see" in notes[-1]
    assert len(notes) <= local_workers.KILLED_IN_VAIN + 3 and not state(tmp_path, make(1)).is_settled(NEVER)


@pytest.mark.parametrize("stop", ["ctrl-c", "ctrl-c in the background", "terminate"])
def test_a_stop_lets_workers_make_their_checkpoints(stop: str, tmp_path: Path, repo: Path) -> None:
    code = """
import sys
from pathlib import Path
from bench.config import Execution, resolve
from bench.sweep.local_workers import run_in_workers
runs = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2, 3)]
try:
    run_in_workers(runs, Execution(device="cpu"), Path(sys.argv[1]), jobs=2, report=print)
except KeyboardInterrupt:
    sys.exit(130)
"""
    environment = os.environ | {"FAKE_RUNS": '{"1": "wait", "2": "wait"}'}
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "-"] if "background" in stop else []
    sweep = subprocess.Popen(
        [*shell, sys.executable, "-c", code, str(tmp_path)], cwd=repo, env=environment, start_new_session=True
    )
    folders = [RunDir(tmp_path, make(seed).id) for seed in (1, 2, 3)]
    try:
        deadline = time.monotonic() + 120
        while not all(folder.run.exists() for folder in folders[:2]) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        if stop == "terminate":
            sweep.terminate()
        else:  # as a terminal does: to the sweep and everything it started
            os.killpg(sweep.pid, signal.SIGINT)
        assert sweep.wait(120) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(sweep.pid, signal.SIGKILL)
    assert [folder.checkpoint.exists() for folder in folders] == [True, True, False]
    assert [state(tmp_path, make(seed)).name for seed in (1, 2, 3)] == ["interrupted", "interrupted", "missing"]


def test_progress_is_read_from_the_results_folder(tmp_path: Path) -> None:
    run, events = resolve("mini-bart", "lora", "image-text", settings={"steps": 10}), []
    follow = RunFollower([run], tmp_path, events.append, NEVER)
    assert follow.look() == {run.id: "missing"}
    assert events == []
    folder = RunDir(tmp_path, run.id)
    with acquire(folder.claim, ClaimObserver()) as lease:
        pulse = ProgressFile(folder, lambda event: None, None)
        assert follow.look() == {run.id: "running"}
        pulse(RunEvent("phase", run.id, "train"))
        for step in (4, 5):
            pulse(RunEvent("step", run.id, "vqa", step, 10, 0.5, 0.25, 32))
        pulse.write()
        for _ in range(2):
            follow.look()
        assert lease
    assert follow.look() == {run.id: "missing"}
    fake_runs.run_one(run, CPU, tmp_path)
    for _ in range(2):
        assert follow.look() == {}
    assert [event.kind for event in events] == ["start", "phase", "step", *["score"] * 4, "end"]
    assert events[3].message == "VQAv2 accuracy 50.00"
    assert events[2] == RunEvent("step", run.id, "train", 5, 10, 0.5, 0.25)


@pytest.mark.parametrize(
    ("visible", "device", "expected"),
    [
        ("0,3", "auto", ["0", "3"]),
        ("GPU-ab, GPU-cd", "cuda", ["GPU-ab", "GPU-cd"]),
        ("", "auto", []),
        ("0,3", "cuda:1", []),
    ],
)
def test_gpus_are_those_that_are_visible(
    visible: str, device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus(Execution(device=device)) == expected


def test_an_error_outside_of_a_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_RUNS", "not JSON")
    stream = io.StringIO()
    with Progress(1, stream=stream) as progress:
        run_in_workers([make(1)], CPU, tmp_path, jobs=1, report=progress)
    match = re.search(r"worker \d+ ended early; see (.+)", stream.getvalue())
    assert match is not None
    assert Path(match[1]).exists()
    assert state(tmp_path, make(1)).name == "interrupted"


def test_a_stop_while_workers_are_starting_is_not_lost(tmp_path: Path) -> None:
    pool = local_workers.WorkerPool(Pack(runs=(make(1),), execution=CPU, results=tmp_path, retry="never"), [])
    pool.start(1)
    pool.stop()
    assert fake_runs.ledger(tmp_path) == []
    assert state(tmp_path, make(1)).name == "missing"


@pytest.mark.parametrize("signal_name", ["SIGUSR2", "SIGTERM", None])
def test_a_worker_says_by_its_exit_code_whether_it_wants_to_go_on(
    signal_name: str | None, tmp_path: Path, repo: Path
) -> None:
    run, run_dir = make(1), RunDir(tmp_path, make(1).id)
    Pack(runs=(run,), execution=CPU, results=tmp_path, retry="never").write(tmp_path / "pack.json")
    environment = os.environ | ({"FAKE_RUNS": '{"1": "wait"}'} if signal_name else {})
    command = [sys.executable, "-m", "bench", "work", "--pack", str(tmp_path / "pack.json")]
    worker = subprocess.Popen([*command, "--exit-code", str(tmp_path / "exit")], cwd=repo, env=environment)
    if signal_name:
        deadline = time.monotonic() + 60
        while not run_dir.run.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        worker.send_signal(signal.Signals[signal_name])
    code = {"SIGUSR2": REQUEUE, "SIGTERM": TERMINATED, None: 0}[signal_name]
    assert worker.wait(60) == code
    assert (tmp_path / "exit").read_text() == str(code)
    (attempt,) = attempts.read(run_dir)
    assert (attempt.outcome, attempt.reason) == (("interrupted", signal_name) if signal_name else ("done", ""))


def test_the_folder_of_another_person_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "submitit").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "submitit")
    run_in_workers([make(1)], CPU, tmp_path, jobs=1)
    assert state(tmp_path, make(1)).name == "done"
    assert list((tmp_path / f"submitit-{os.getuid()}").iterdir()) and not list((tmp_path / "submitit").iterdir())


def test_a_pack_that_cannot_be_read_is_one_clear_error(tmp_path: Path, repo: Path) -> None:
    (tmp_path / "pack.json").write_text("{")
    command = [sys.executable, "-m", "bench", "work", "--pack", str(tmp_path / "pack.json")]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pack.json" in done.stderr
