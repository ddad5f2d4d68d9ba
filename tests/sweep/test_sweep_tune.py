"""Tuning: the same drawn configurations for every method, chosen on what no table reports."""

import tomllib
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from bench import suites
from bench.cli import main
from bench.config import resolve
from bench.data import held_out
from bench.errors import UsageError
from bench.records import load_frame, load_results
from bench.sweep.expand import base_values, expand
from bench.sweep.spec import Sweep
from bench.sweep.tuning_space import configurations, space, tuned
from bench.tasks import get

SPACE = ["lr=1e-4..1e-2", "warmup=0.0..0.2", "rank=2..8", "clip=1.0,5.0"]


def test_draws_lie_in_the_space_and_repeat_themselves() -> None:
    points = configurations(space(SPACE), 40, "random", 3)
    assert points == configurations(space(SPACE), 40, "random", 3) != configurations(space(SPACE), 40, "random", 4)
    for point in points:
        assert 1e-4 <= point["lr"] <= 1e-2 and 0 <= point["warmup"] <= 0.2
        assert point["rank"] in range(2, 9) and point["clip"] in (1.0, 5.0)
    assert 10 < sum(point["lr"] < 1e-3 for point in points) < 30  # half of a logarithmic range
    assert configurations(space(SPACE), 3, "random", 3) == points[:3]  # a larger budget only adds


def test_a_grid_has_every_point_once() -> None:
    points = configurations(space(["lr=0.1,0.2,0.3", "clip=1.0,5.0"]), 6, "grid", 0)
    assert {(point["lr"], point["clip"]) for point in points} == {(a, b) for a in (0.1, 0.2, 0.3) for b in (1.0, 5.0)}


@pytest.mark.parametrize(
    ("texts", "count", "sampler", "hint"),
    [
        (["lr=1e-2..1e-4"], 3, "random", "KEY=LOW..HIGH"),
        (["lr=a..b"], 3, "random", "KEY=LOW..HIGH"),
        (["lr=1e-4..1e-2"], 3, "grid", "choices"),
        (["lr=0.1,0.2"], 3, "grid", "--trials 2"),
        (["lr=0.1,0.2"], 3, "random", "--trials 2"),
        (["rank=2..4", "clip=1.0,5.0"], 7, "random", "--trials 6"),
        (["lr=0.1..0.1001"], 5, "random", "differ in three digits"),
    ],
)
def test_a_wrong_space_is_one_clear_error(texts: list[str], count: int, sampler: Any, hint: str) -> None:
    with pytest.raises(UsageError) as told:
        configurations(space(texts), count, sampler, 0)
    assert hint in str(told.value)


def test_a_small_space_is_spent_whole_and_no_draw_is_there_twice() -> None:
    points = configurations(space(["rank=2..4", "clip=1.0,5.0"]), 6, "random", 0)
    assert len({(point["rank"], point["clip"]) for point in points}) == 6


def test_a_draw_that_is_the_default_of_a_method_is_made_again() -> None:
    asked = Sweep(name="x", methods=("lora", "full"), suites=("image-text",))
    defaults = base_values(asked)
    clip, beams = defaults[0]["clip"], defaults[0]["beams"]
    texts = [f"clip={clip},1.25,1.5", f"beams={beams},{beams + 1}"]
    points = configurations(space(texts), 5, "random", 1, defaults)
    assert {"clip": clip, "beams": beams} not in points and len({repr(point) for point in points}) == 5
    cells = expand(tuned(asked, points))
    assert [cell.base for cell in cells].count("lora") == [cell.base for cell in cells].count("full") == 6
    with pytest.raises(UsageError, match=r"5 points besides the defaults of the methods .1 of them"):
        configurations(space(texts), 6, "random", 1, defaults)
    with pytest.raises(UsageError, match="has 0 points"):
        configurations(space([f"clip={clip}"]), 1, "random", 1, defaults)


def test_every_method_gets_its_default_and_the_same_points() -> None:
    asked = Sweep(name="x", methods=("lora", "full"), suites=("image-text",))
    points = [{"lr": 1e-3, "clip": 1.0}, {"lr": 2e-3, "clip": 5.0}]
    cells = expand(tuned(asked, points))
    assert [cell.base for cell in cells] == ["lora"] * 3 + ["full"] * 3
    assert all(cell.run and cell.run.recipe.evaluate == "tuning" for cell in cells)
    assert [cell.run.recipe.lr for cell in cells if cell.run and cell.base == "full"] == [2e-4, 1e-3, 2e-3]
    with pytest.raises(UsageError, match="axes or deltas"):
        tuned(asked.model_copy(update={"drop": ("image",)}), points)


def test_runs_that_tune_have_ids_of_their_own_and_say_so() -> None:
    one, other = (
        resolve("mini-bart", "lora", "image-text", settings=settings) for settings in ({}, {"evaluate": "tuning"})
    )
    assert one.id != other.id and "tuning" in other.id and "tuning" not in one.id


@pytest.mark.parametrize("name", ["image-text", "video-text"])
def test_tuning_never_sees_an_example_that_is_reported_or_trained_on(name: str, tiny_root: Path) -> None:
    for task in suites.get(name).tasks:
        parts = {split: held_out.read(task, tiny_root, split) for split in (held_out.TRAIN, held_out.TUNING)}
        reported = {example.id for example in task.read(tiny_root, task.report_split)}
        looks = {split: {e.visual[0] for e in examples} for split, examples in parts.items()}
        if held_out.has_own_validation(task):
            assert parts[held_out.TRAIN] == task.read(tiny_root, "train")
            assert parts[held_out.TUNING] == task.read(tiny_root, "validation")
        else:
            together = sorted(e.id for part in parts.values() for e in part)
            assert together == sorted(e.id for e in task.read(tiny_root, "train"))
            assert not looks[held_out.TRAIN] & looks[held_out.TUNING]  # not even another question on the same image
        assert not {e.id for e in parts[held_out.TUNING]} & reported or held_out.has_own_validation(task)
    assert not held_out.has_own_validation(get("gqa")) and held_out.has_own_validation(get("vqa"))


@pytest.fixture
def folders(tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    (tmp_path / "data").symlink_to(tiny_root)
    return ["--results", str(tmp_path / "r"), "--reports", str(tmp_path / "p"), "--data", f"mini={tmp_path / 'data'}"]


WORDS = ["tune", "--methods", "lora,ia3", "--suites", "image-text", "--set", "steps=3", "--space", "lr=1e-3..1e-2"]


def test_from_search_to_ledger_and_best_settings(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--trials", "3", "--quiet", *folders]) == 0
    told = capsys.readouterr().out
    assert "Best of 4" in told and "best-mini-bart-image-text.toml" in told
    assert load_results(tmp_path / "r").empty  # no table of results has them
    assert set(load_frame(tmp_path / "r", tuning=True)["method"]) == {"lora", "ia3"}
    assert main(["tune", "--ledger", "--format", "json", *folders]) == 0
    assert capsys.readouterr().out.count('"configurations": 4') == 2
    best = next((tmp_path / "p").rglob("best-*.toml"))
    variants = tomllib.loads(best.read_text())["variant"]
    assert [variant["label"] for variant in variants] == ["lora (tuned)", "ia3 (tuned)"]
    assert main(["sweep", str(best), "--dry-run", *folders]) == 0
    assert "ia3 (tuned)" in capsys.readouterr().out
    assert list((tmp_path / "p").glob("lora-vs-ia3-image-text-*-tuning/plots/best-of-k-mini-bart-image-text.png"))


@pytest.mark.parametrize("split", ["test", "testdev", "report"])
def test_choosing_on_a_test_split_is_refused(
    split: str, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--select", split, *folders]) == 2
    told = capsys.readouterr().err
    assert "a test split that chooses is no test" in told and told.count("\n") == 1


def test_a_grid_with_the_default_says_that_it_is_tried_once(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--methods", "lora", "--suites", "image-text", "--space", "clip=5.0,1.0", "--sampler", "grid"]
    assert main([*words, "--trials", "2", "--dry-run", *folders]) == 0
    assert "1 of the 2 points of the grid are the default" in capsys.readouterr().err
