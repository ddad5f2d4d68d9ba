"""Prices of runs from records of like ones, and what blocks a run."""

import doctest
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from bench.cli import pricing
from bench.config import Run, resolve
from bench.data.roots import why_blocked
from bench.record_schema import Record
from bench.run_dir import RunDir
from bench.sweep.cost_model import CostModel


def planned(method: str = "lora", **settings: Any) -> Run:
    return resolve("mini-bart", method, "image-text", settings={"steps": 100, "batch_size": 10, **settings})


def measured(results: Path, run: Run, step: float, finished: str = "1", hardware: str = "A", **more: Any) -> None:
    folder = RunDir(results, run.id)
    folder.begin(run)
    folder.weights.write_bytes(fake_runs.WEIGHTS)
    steps = run.recipe.steps or 0
    time = {"step_seconds": step, "train_seconds": step * steps, "total_seconds": step * steps + 30.0}
    scores = {task.name: fake_runs.score(task.metric) for task in run.task_list}
    fields = {"environment": {"hardware": hardware}, "time": time, "finished": finished, "scores": scores, **more}
    folder.finish(Record.model_validate({"id": run.id, "run": run, "status": "done", **fields}))


def test_the_summary_is_as_documented() -> None:
    outcome = doctest.testmod(pricing)
    assert outcome.attempted and not outcome.failed


def test_time_grows_with_steps_and_batch_and_the_rest_stays(tmp_path: Path) -> None:
    measured(tmp_path, planned(), 0.1)
    assert CostModel(tmp_path).price(planned(steps=300), 0).seconds == pytest.approx(300 * 0.1 + 30)
    assert CostModel(tmp_path).price(planned(batch_size=20), 0).seconds == pytest.approx(100 * 0.2 + 30)


def test_the_likest_runs_count_and_those_of_the_latest_hardware(tmp_path: Path) -> None:
    measured(tmp_path, planned("full"), 9.0, finished="9")
    assert CostModel(tmp_path).price(planned(), 0).seconds == pytest.approx(930)  # nothing liker
    measured(tmp_path, planned(rank=3), 2.0, finished="2")
    assert CostModel(tmp_path).price(planned(), 0).seconds == pytest.approx(230)
    measured(tmp_path, planned(lr=1e-3), 1.0, finished="3")
    measured(tmp_path, planned(lr=2e-3), 5.0, finished="4", hardware="B")
    price = CostModel(tmp_path).price(planned(), 0)
    assert (price.seconds, price.hardware) == (pytest.approx(530), "B")


def test_what_differs_in_kind_has_no_price(tmp_path: Path) -> None:
    measured(tmp_path, planned(precision="bf16"), 1.0)
    measured(tmp_path, planned(limit=3), 1.0)
    assert CostModel(tmp_path).price(planned(), 0).seconds is None
    assert CostModel(tmp_path / "nowhere").price(planned(), 0).disk is None


def test_disk_is_what_like_runs_left_and_the_weights(tmp_path: Path) -> None:
    measured(tmp_path, planned(), 1.0)
    folder = RunDir(tmp_path, planned().id)
    others = sum(path.stat().st_size for path in folder.path.iterdir() if path != folder.weights)
    assert CostModel(tmp_path).price(planned(steps=5), 1000).disk == others + 4000


def test_epochs_are_counted_on_the_data(tmp_path: Path) -> None:
    by_epoch = resolve("mini-bart", "lora", "image-text", settings={"epochs": 3, "batch_size": 10})
    assert CostModel(tmp_path).steps(planned()) == 100
    counts = {"vqa": 95, "gqa": 16, "nlvr": 3, "caption": 8}  # batches of 10, 16, 3, 8
    measured(tmp_path, planned(), 1.0, data={"counts": counts})
    assert CostModel(tmp_path).steps(by_epoch) == 3 * (10 + 1 + 1 + 1)
    official = resolve("bart-base", "lora", "image-text", data="official", settings={"epochs": 1})
    assert CostModel(tmp_path).steps(official) == 1211 + 1291 + 521 + 1363


def test_missing_data_block(tmp_path: Path) -> None:
    assert why_blocked("mini", "image-text", {}) == ""  # made on first use
    assert "--data official=PATH" in why_blocked("official", "image-text", {})
    assert "no such folder" in why_blocked("official", "image-text", {"official": tmp_path / "x"})
    assert "no annotations" in why_blocked("official", "image-text", {"official": tmp_path})
    (tmp_path / "vqa").mkdir()
    (tmp_path / "vqa" / "train.json").write_text("[]")
    assert why_blocked("official", "image-text", {"official": tmp_path}) == ""
