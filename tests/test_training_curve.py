"""Curves of runs as reports and notebooks read them."""

import json
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.run_dir import RunDir
from bench.training_curve import read_curves

LOSSES = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": 0.1 * step} for step in (1, 2, 3, 4)]
SCORES = [{"step": step, "mean": 10.0 * step, "scores": {"gqa": 10.0 * step}} for step in (2, 4)]


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path, "a-run")
    folder.path.mkdir(parents=True)
    folder.curve.write_text(lines(LOSSES), encoding="utf-8")
    return folder


def test_validation_scores_stand_at_their_updates(folder: RunDir, tmp_path: Path) -> None:
    folder.validation.write_text(lines(SCORES), encoding="utf-8")
    curve = bench.load_curves(pd.DataFrame({"run_id": ["a-run"]}), tmp_path)["a-run"]
    assert curve.dropna(subset="loss")["step"].tolist() == [1, 2, 3, 4]
    assert dict(curve.dropna(subset="validation")[["step", "validation"]].to_numpy()) == {2: 20.0, 4: 40.0}


def test_an_unreadable_file_costs_itself_alone(folder: RunDir, tmp_path: Path) -> None:
    folder.validation.mkdir()
    curves, unreadable = read_curves(tmp_path, ["a-run", "nowhere"])
    assert curves["a-run"]["loss"].tolist() == [row["loss"] for row in LOSSES]
    assert len(unreadable) == 1
    assert str(folder.validation) in unreadable[0]
