"""What a run is: its id, how settings find their place, and what is said about wrong ones."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import Recipe, Run, is_mini, parse_setting, resolve, split_settings
from bench.errors import UsageError
from methods.core.errors import MethodError

SETTINGS: dict[str, Any] = {"steps": 50, "lr": 2e-3, "rank": 8, "recipe.dropout": 0.2, "visual": "zero", "limit": 30}


def cell(method: str = "vl-pet-large", suite: str = "image-text", **settings: Any) -> Run:
    return resolve("bart-base", method, suite, settings=settings)


@given(st.permutations(list(SETTINGS)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_settings_does_not_change_the_id(keys: list[str]) -> None:
    assert cell(**{key: SETTINGS[key] for key in keys}).id == cell(**SETTINGS).id


def test_a_run_read_back_has_the_same_id() -> None:
    run = cell(**SETTINGS)
    assert Run.model_validate_json(run.model_dump_json(by_alias=True)) == run
    assert Run.model_validate_json(run.model_dump_json(by_alias=True)).id == run.id


def test_options_added_later_keep_old_ids() -> None:
    class LaterRecipe(Recipe):
        ema: float = 0.0

    class LaterRun(Run):
        recipe: LaterRecipe
        adapters: tuple[str, ...] = ()

    run = cell(**SETTINGS)
    later = LaterRun.model_validate(run.model_dump(by_alias=True))
    assert later.id == run.id
    changed = later.model_copy(update={"recipe": later.recipe.model_copy(update={"ema": 0.9})})
    assert changed.id != run.id


@pytest.mark.parametrize(
    "same",
    [
        {"dropout": 0.1},
        {"method.heads": 4},
        {"eval_batch_size": 7},
        {"checkpoint_every": 5},
        {"lr": 1e-3},
        {"recipe.lr": 0.001},
    ],
)
def test_defaults_and_what_cannot_change_a_result_are_not_in_the_id(same: dict[str, Any]) -> None:
    assert cell(**same).id == cell().id


def test_epochs_are_not_in_the_id_of_a_run_of_so_many_steps() -> None:
    run = cell(steps=10)
    assert run.model_copy(update={"recipe": run.recipe.model_copy(update={"epochs": 3})}).id == run.id
    assert cell(epochs=3).id != cell().id


def test_everything_that_can_change_a_result_changes_the_id() -> None:
    runs = [
        cell(),
        cell("lora"),
        cell(suite="video-text"),
        resolve("t5-base", "vl-pet-large", "image-text"),
        resolve("bart-base", "vl-pet-large", "image-text", seed=2),
        resolve("bart-base", "vl-pet-large", "image-text", data="mine"),
        resolve("bart-base", "vl-pet-large", "image-text", tasks_=("vqa",)),
        *(cell(**{key: value}) for key, value in SETTINGS.items()),
    ]
    assert len({run.id for run in runs}) == len(runs)


def test_all_tasks_of_a_suite_are_the_suite() -> None:
    every = resolve("bart-base", "lora", "image-text", tasks_=("caption", "nlvr", "gqa", "vqa"))
    assert every == cell("lora")
    assert resolve("bart-base", "lora", "image-text", tasks_=("nlvr", "vqa")).tasks == ("vqa", "nlvr")


def test_ids_stay_what_they_were(repo: Path) -> None:
    """Results folders are named by these ids: if this fails, everybody's finished runs are lost."""
    golden = {
        "vl-pet-large-bart-base-image-text-s1": cell(),
        "lora-rank=8-bart-base-video-text-s1": cell("lora", "video-text", rank=8),
    }
    ids = [run.id for run in golden.values()]
    assert [name.rpartition("-")[0] for name in ids] == list(golden)
    assert [name.rpartition("-")[2] for name in ids] == ["b0060cb9", "a2777dc4"]
    code = "import sys; from bench.config import Run; print(Run.model_validate_json(sys.argv[1]).id)"
    command = [sys.executable, "-c", code, cell().model_dump_json(by_alias=True)]
    elsewhere = {"PYTHONHASHSEED": "7"}
    told = subprocess.run(command, cwd=repo, env=elsewhere, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ids[0]


def test_the_paper_recipe_by_family_and_suite() -> None:
    sizes = {
        (backbone, suite): resolve(backbone, "lora", suite).recipe.batch_size
        for backbone in ("bart-base", "t5-base")
        for suite in ("image-text", "video-text")
    }
    assert list(sizes.values()) == [500, 50, 300, 30]
    assert cell("full").recipe.lr == 1e-4
    assert cell().recipe.lr == 1e-3
    assert (cell().recipe.select, cell(suite="video-text").recipe.select) == ("last", "best")


def test_settings_beat_recipes_and_epochs_replace_steps(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("steps = 10\nlr = 0.5\n[bart]\nclip = 2.0\n[method.full]\nlr = 0.25\n[video-text]\nbeams = 2\n")

    def mine(method: str = "lora", suite: str = "image-text", **settings: Any) -> Recipe:
        return resolve("bart-base", method, suite, recipe=str(recipe), settings=settings).recipe

    assert (mine().steps, mine().lr, mine().clip, mine().beams) == (10, 0.5, 2.0, 5)
    assert (mine("full").lr, mine("full", lr=0.125).lr, mine(suite="video-text").beams) == (0.25, 0.125, 2)
    assert (mine(epochs=3).steps, mine(epochs=3).epochs, mine(epochs=3, steps=4).steps) == (None, 3, 4)


def test_settings_find_their_place() -> None:
    assert split_settings({"lr": 1, "rank": 2, "recipe.clip": 3, "method.heads": 4}, ["vl-pet-large"]) == (
        {"lr": 1, "clip": 3},
        {"rank": 2, "heads": 4},
    )


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"stesp": 3}, "did you mean 'steps'"),
        ({"recipe.bemas": 3}, "'beams'"),
        ({"rnk": 3}, "'rank'"),
        ({"method.rnk": 3}, "'rank'"),
        ({"steps": "many"}, "recipe.steps"),
        ({"lr": -1.0}, "recipe.lr"),
        ({"lr": True}, "recipe.lr"),
        ({"limit": True}, "recipe.limit"),
        ({"steps": "3"}, "recipe.steps"),
        ({"rank": "big"}, "rank"),
        ({"select": "best", "validate": "never"}, 'validate = "epoch"'),
    ],
)
def test_wrong_settings_name_the_field_and_near_matches(wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises((UsageError, MethodError)) as told:
        cell(**wrong)
    assert hint in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (("bart-base", "lroa", "image-text"), "'lora'"),
        (("bart-base", "lora", "image-txt"), "'image-text'"),
    ],
)
def test_unknown_names_have_near_matches(names: tuple[str, str, str], hint: str) -> None:
    with pytest.raises((UsageError, MethodError), match=hint):
        resolve(*names)
    with pytest.raises(UsageError, match="'vqa'"):
        resolve("bart-base", "lora", "image-text", tasks_=("vqaa",))
    with pytest.raises(UsageError, match="'paper'"):
        resolve("bart-base", "lora", "image-text", recipe="papr")


def test_parse_setting() -> None:
    given = ["lr=1e-3", "gate=small", "task_prefix=false", "sites=['a', 'b']", "path=a=b"]
    assert [parse_setting(text)[1] for text in given] == [1e-3, "small", False, ["a", "b"], "a=b"]
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parse_setting("lr")


def test_a_pretrained_miniature_is_known_by_its_log(tmp_path: Path) -> None:
    assert not is_mini(str(tmp_path))
    (tmp_path / "training_log.json").write_text("{}")
    assert is_mini(str(tmp_path))


def test_equal_runs_hash_alike() -> None:
    assert len({cell(rank=4), cell(rank=4), cell(rank=8)}) == 2


@pytest.mark.parametrize(("backbone", "batch"), [("bart-base", 50), ("t5-base", 30)])
def test_the_paper_recipe_for_video_keeps_all_64_frames(backbone: str, batch: int) -> None:
    recipe = resolve(backbone, "vl-pet-large", "video-text").recipe
    assert (recipe.n_frames, recipe.n_boxes, recipe.batch_size) == (64, 64, batch)
    assert resolve(backbone, "vl-pet-large", "image-text").recipe.n_boxes == 36
