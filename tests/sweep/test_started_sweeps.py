"""A sweep that was started is known by its name: every verb takes its plan from the results folder."""

import json
import threading
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from bench.cli import main
from bench.errors import UsageError
from bench.sweep.spec import Sweep
from bench.sweep.started import keep, started_names, started_sweeps


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setattr("bench.cli.sweep.check_inputs", lambda runs, execution, partial: None)  # runs that read no data
    monkeypatch.setattr("bench.report.write", lambda name, *rest, **more: [Path(name) / "report.html"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "COCO").mkdir(parents=True)
    (tmp_path / "data" / "COCO" / "dataset_coco.json").write_text("{}")
    return ["--data", "mydata=data", "--quiet"]


CELL = ["--methods", "lora", "--suites", "image-text", "--set", "steps=3"]


def runs(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    capsys.readouterr()
    assert main(["status", *words, "--format", "json"]) == 0
    return {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)["runs"]}


def test_every_verb_knows_a_started_sweep_with_its_data(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text('methods = ["lora"]\nsuites = ["image-text"]\nset = {steps = 3}')
    monkeypatch.setenv("FAKE_RUNS", '{"2": "oom"}')
    assert main(["sweep", "mine.toml", "--seeds", "1,2", *place]) == 1
    states = runs(capsys, "mine")
    assert sorted(states.values()) == ["done", "parked"] or sorted(states.values()) == ["done", "failed"]
    failed = next(run for run, state in states.items() if state != "done")
    assert main(["watch", "mine"]) == 0
    assert main(["cancel", "mine"]) == 0
    assert main(["report", "mine", "--format", "json"]) == 0
    capsys.readouterr()
    assert main(["plan", "mine"]) == 0
    assert "blocked" not in (captured := capsys.readouterr().out) and "2 runs" in captured
    assert main(["logs", "mine"]) == 0
    captured = capsys.readouterr().out
    assert all(f"{run}:\n" in captured for run in states) and "2 of the 2 runs of mine have begun" in captured
    assert captured.count("attempt 1: ") == 2 and "failed no more" in captured
    assert main(["retry", "mine", "--failed"]) == 0
    assert failed in capsys.readouterr().out
    assert main(["sweep", "mine", "--dry-run"]) == 0  # its folder of data is known, too
    assert "blocked" not in capsys.readouterr().out
    monkeypatch.delenv("FAKE_RUNS")
    assert main(["sweep", "mine", "--quiet"]) == 0
    assert set(runs(capsys, "mine").values()) == {"done"}
    (tmp_path / "mine.toml").unlink()
    assert list(runs(capsys, "mine")) == list(states)


def test_flags_override_the_plan_that_was_started(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *CELL, "--seeds", "1,2", *place]) == 0
    assert len(runs(capsys)) == 2
    assert set(runs(capsys, "--seeds", "2,3").values()) == {"done", "missing"}
    assert set(runs(capsys, "--seeds", "1", "--set", "steps=4").values()) == {"missing"}


def test_another_plan_under_a_name_has_an_entry_of_its_own(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *CELL, "--seeds", "1", *place]) == 0
    assert main(["sweep", *CELL, "--seeds", "1", *place]) == 0  # the same again
    assert main(["sweep", *CELL, "--seeds", "2,3", *place]) == 0
    assert sorted(path.name for path in (tmp_path / "results" / "sweeps").iterdir()) == [
        "default.json",
        "default@2.json",
    ]
    assert len(runs(capsys)) == 2  # the latest
    capsys.readouterr()
    assert main(["status"]) == 0
    assert "2 plans were started under this name; this is default@2" in capsys.readouterr().err
    assert len(runs(capsys, "default@2")) == 2
    assert set(runs(capsys, *CELL, "--seeds", "1", "--data", "mydata").values()) == {"done"}  # as it was started
    assert main(["sweep", *CELL, "--seeds", "1", *place]) == 0
    assert len(runs(capsys)) == 1  # started last


def test_a_plan_is_kept_with_its_command_and_not_by_a_dry_run(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *CELL, *place, "--dry-run"]) == 0
    assert not (tmp_path / "results").exists()
    assert main(["sweep", *CELL, *place]) == 0
    content = json.loads((tmp_path / "results" / "sweeps" / "default.json").read_text())
    assert content["sweep"]["methods"] == ["lora"] and content["sweep"]["given"] == {"steps": 3}
    assert content["data"] == {"mydata": str(tmp_path / "data")}
    assert content["executor"] == "inline" and content["command"].startswith("python -m bench sweep --methods lora")
    assert content["started"][:2] == "20"


def test_a_built_in_sweep_that_was_not_started_is_as_it_is_written(
    place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(runs(capsys)) == 18


@pytest.mark.parametrize("name", ["mien", "mine@7", "../mine", "mine@x", ""])
def test_an_unknown_name_has_near_matches(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, sweep("mine"), {}, "inline", "x")
    assert main(["status", name, "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "unknown sweep" in error and ("'mine'" in error or name in ("", "mine@x", "../mine"))


def sweep(name: str, **fields: Any) -> Sweep:
    return Sweep.model_validate({"name": name, "methods": ("lora",), **fields})


FIELDS: dict[str, Any] = {
    "axes": {"layers": ([0], [0, 1]), "lr": (1e-3, "=2*lr")},
    "zip": (("layers", "lr"),),
    "only": ("lr=0.001",),
    "per": {"lora": {"rank": 4}},
    "variant": ({"label": "größe", "method": "full", "set": {"visual": "zero"}},),
    "question": "Why? \udcff",
    "max_cells": 7,
}


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    asked = sweep("mine", **FIELDS)
    keep(tmp_path, asked, {"a": tmp_path / "b\udcff"}, "local", "command \udcff")
    (plan,) = started_sweeps(tmp_path, "mine")
    assert plan.sweep.content() == asked.content()
    assert plan.roots == {"a": tmp_path / "b\udcff"} and plan.key == "mine"


def test_processes_that_start_at_once_lose_nothing(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=keep, args=(tmp_path, sweep("mine", seeds=(seed % 6,)), {}, "inline", "x"))
        for seed in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {plan.sweep.seeds for plan in started_sweeps(tmp_path, "mine")} == {(seed,) for seed in range(6)}
    assert started_names(tmp_path) == ["mine"]
    assert not list((tmp_path / "sweeps").glob(".*"))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 50_000, '{"schema": 2}', "\xff"])
def test_an_entry_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    keep(tmp_path, sweep("mine"), {}, "inline", "x")
    path = tmp_path / "sweeps" / "mine.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"mine\.json"):
        started_sweeps(tmp_path, "mine")
    keep(tmp_path, sweep("mine"), {}, "inline", "x")  # starting is possible all the same
    assert path.read_text(encoding="latin-1") == text
    assert (tmp_path / "sweeps" / "mine@2.json").exists()
