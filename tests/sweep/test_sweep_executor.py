"""Who executes the runs of a sweep where nobody says: workers for miniature runs, with the results of this process."""

import json
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from bench.cli import main
from bench.config import Execution, Run, resolve
from bench.run_dir import RunDir
from bench.sweep import local_workers
from bench.sweep.local_workers import worthwhile_workers

CPU = Execution(device="cpu")


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_workers, "cores", lambda: 4)
    monkeypatch.setattr(local_workers, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("bench.report.write", lambda name, *rest, **more: [Path(name) / "report.html"])


def make(seeds: int, backbone: str = "mini-bart") -> list[Run]:
    return [resolve(backbone, "lora", "image-text", seed=seed) for seed in range(1, seeds + 1)]


@pytest.mark.parametrize(
    ("runs", "execution", "updates", "workers"),
    [
        (make(9), CPU, 700, 4),
        (make(3), Execution(), 700, 3),
        (make(2), CPU, 499, 1),  # over before workers have started
        (make(1), CPU, 7000, 1),
        ([*make(2), *make(1, "bart-base")], CPU, 700, 1),
        (make(9), Execution(device="cuda"), 700, 1),
        (make(9), Execution(device="cpu", threads=2), 700, 1),
    ],
    ids=["one per core", "one per run", "few updates", "one run", "not miniature", "a GPU", "threads"],
)
def test_workers_are_for_miniature_runs_that_take_long(
    runs: list[Run], execution: Execution, updates: int, workers: int
) -> None:
    assert worthwhile_workers(runs, execution, lambda run: updates) == workers


def test_a_visible_gpu_and_little_memory_are_reasons_against_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2.5 * 2**30}))
    assert worthwhile_workers(make(9), CPU, lambda run: 700) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert worthwhile_workers(make(9), Execution(), lambda run: 700) == 1


def sweep(tmp_path: Path, *words: str) -> int:
    folders = ("--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports"))
    grid = ("--methods", "lora", "--suites", "image-text", "--tasks", "gqa", "--device", "cpu")
    return main(["sweep", *grid, *folders, *words])


def test_the_default_sweep_goes_to_workers_and_prints_what_it_always_did(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs.also_in_workers(tmp_path / "site", monkeypatch)
    monkeypatch.setenv("FAKE_RUNS", '{"3": "nan"}')
    words = ("--seeds", "3,4", "--data", f"mini={tiny_root}")
    assert sweep(tmp_path, *words, "--format", "json", "--quiet") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)
    assert shown.err == ""
    assert len(list((tmp_path / "results" / "submitit").glob("*/worker-*.exit"))) == 2

    assert sweep(tmp_path, *words, "--seeds", "3..6") == 1
    log = capsys.readouterr().err
    assert "4 runs: 2 to do, 1 already done, 1 failed before" in log and "in 2 worker processes" in log
    ends = [line for line in log.splitlines() if " end " in line]
    assert len(ends) == 2 and "[2/2]" in ends[-1]
    assert log.count("score  lora-mini-bart-image-text-gqa") == 2
    assert "-s3-" in log.split("not done:")[1] and "nan" in log.split("not done:")[1]

    monkeypatch.setattr(local_workers, "run_in_workers", lambda *inputs, **options: 1 / 0)
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    assert sweep(tmp_path, *words, "--seeds", "7,8", "--executor", "inline") == 0


def test_workers_leave_what_this_process_does(tiny_root: Path, tmp_path: Path) -> None:
    """Weights, predictions and scores are equal bit for bit; records tell the times apart."""
    records: dict[str, Any] = {}
    for executor in ("inline", "local"):
        words = ("--seeds", "1,2", "--set", "steps=3", "--data", f"mini={tiny_root}", "--executor", executor, "--quiet")
        assert sweep(tmp_path / executor, *words) == 0
        folders = [RunDir.at(path) for path in sorted((tmp_path / executor / "results" / "runs").iterdir())]
        contents = [(f.id, f.weights.read_bytes(), f.read_predictions("gqa")) for f in folders]
        kept = [f.read() for f in folders]
        records[executor] = (contents, [record.scores for record in kept]), [record.environment for record in kept]
    assert records["inline"][0] == records["local"][0]
    inline, local = ([(e["workers"], e["hardware"]) for e in records[name][1]] for name in ("inline", "local"))
    assert local == [(2, f"{hardware}, 2 runs at a time") for _, hardware in inline]
    assert [workers for workers, _ in inline] == [1, 1]
