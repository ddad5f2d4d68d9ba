"""What a run is: its id, how settings find their place, and what is said about wrong ones."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import tasks
from bench.config import Recipe, Run, Settings, is_mini, parse_setting, resolve
from bench.errors import UsageError
from bench.plugins import Registry
from methods.core.errors import MethodError
from methods.core.registry import ResolvedMethod

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
        resolve("bart-base", "vl-pet-large", "image-text", task_names=("vqa",)),
        *(cell(**{key: value}) for key, value in SETTINGS.items()),
    ]
    assert len({run.id for run in runs}) == len(runs)


def test_the_official_tasks_of_a_suite_are_the_suite() -> None:
    every = resolve("bart-base", "lora", "image-text", task_names=("caption", "nlvr", "gqa", "vqa"))
    assert every == cell("lora")
    assert every.id == cell("lora").id
    assert every.tasks == ("vqa", "gqa", "nlvr", "caption")
    assert resolve("bart-base", "lora", "image-text", task_names=("nlvr", "vqa")).tasks == ("vqa", "nlvr")


def test_a_run_of_an_earlier_version_names_the_official_tasks() -> None:
    content = cell("lora").model_dump(by_alias=True)
    for earlier in ({**content, "tasks": []}, {key: value for key, value in content.items() if key != "tasks"}):
        assert Run.model_validate(earlier) == cell("lora")
    unknown_suite = Run.model_validate({**content, "suite": "audio-text", "tasks": []})
    assert unknown_suite.tasks == ()


def test_a_ninth_task_changes_no_run_of_the_official_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell("lora")
    registry = tasks._registry()
    ninth = replace(tasks.get("gqa"), name="okvqa", order=1, version=3)
    monkeypatch.setattr(tasks, "_registry", lambda: Registry({**registry.entries, "okvqa": ninth}, registry.built_in))
    assert cell("lora") == before
    assert cell("lora").id == before.id
    run = resolve("bart-base", "lora", "image-text", task_names=("okvqa", "vqa"))
    assert run.tasks == ("vqa", "okvqa")
    assert run.content()["task_versions"] == {"okvqa": 3}
    assert "-vqa-okvqa-" in run.id


@pytest.mark.parametrize(
    ("place", "name", "value", "key"),
    [
        ("bench.config", "PROTOCOL", 2, "protocol_version"),
        ("bench.backbones.builder", "VERSIONS", {"bart": 2}, "backbone_version"),
    ],
)
def test_another_version_is_another_run(
    place: str, name: str, value: object, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cell().id
    monkeypatch.setattr(f"{place}.{name}", value)
    assert cell().content()[key] == 2
    assert cell().id != before


def test_an_id_is_computed_once_and_a_copy_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = cell(), []
    content = Run.content
    monkeypatch.setattr(Run, "content", lambda self: [calls.append(1), content(self)][1])
    assert len({run.id, run.id, run.model_copy().id}) == 1
    other = run.model_copy(update={"seed": 2})
    assert other.id != run.id
    assert other.id == resolve("bart-base", "vl-pet-large", "image-text", seed=2).id
    assert run == cell()
    assert hash(run) == hash(cell())
    assert len(calls) == 5  # the run, its plain copy, the other, the other made anew, the hash of a new one


def test_the_optimiser_values_of_a_method_are_asked_for_only_where_nothing_gives_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: ResolvedMethod, family: str, suite: str) -> None:
        raise MethodError("asked for")

    monkeypatch.setattr(ResolvedMethod, "optim", refuse)
    assert cell(lr=0.5, weight_decay=0.0, task_prefix=True).recipe.lr == 0.5
    assert resolve("mini-bart", "lora", "image-text").recipe.lr == 6e-3
    with pytest.raises(MethodError, match="asked for"):
        cell(lr=0.5)


def test_ids_stay_what_they_were(repo: Path) -> None:
    """Results folders are named by these ids: if this fails, everybody's finished runs are lost."""
    golden = {
        "vl-pet-large-bart-base-image-text-s1": cell(),
        "lora-rank=8-bart-base-video-text-s1": cell("lora", "video-text", rank=8),
    }
    ids = [run.id for run in golden.values()]
    assert [name.rpartition("-")[0] for name in ids] == list(golden)
    assert [name.rpartition("-")[2] for name in ids] == ["f9d8280e", "ebc8418a"]
    # The recipe of the paper was given these three; an earlier version ran, and so named, the same without them.
    before = {"optimizer": "adamw", "precision": "fp32", "beam_length": "library"}
    earlier = [run.model_copy(update={"recipe": run.recipe.model_copy(update=before)}).id for run in golden.values()]
    assert [name.rpartition("-")[2] for name in earlier] == ["b0060cb9", "a2777dc4"]
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
    found = Settings.classify({"lr": 1, "rank": 2, "recipe.clip": 3, "method.heads": 4}, ["vl-pet-large"])
    assert found == Settings({"lr": 1, "clip": 3}, {"rank": 2, "heads": 4})
    assert found | Settings({"lr": 2}, {"gate": "none"}) == Settings(
        {"lr": 2, "clip": 3}, {"rank": 2, "heads": 4, "gate": "none"}
    )
    assert resolve("bart-base", "vl-pet-large", "image-text", settings=Settings({"lr": 0.5}, {"rank": 8})) == cell(
        lr=0.5, rank=8
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
        *(
            ({key: 10**30}, f"recipe.{key}: Input should be less than or equal to")
            for key in (
                "steps",
                "epochs",
                "batch_size",
                "eval_batch_size",
                "beams",
                "limit",
                "n_boxes",
                "n_frames",
                "checkpoint_every",
            )
        ),
        ({"batch_size": 1e30}, "recipe.batch_size"),
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
        resolve("bart-base", "lora", "image-text", task_names=("vqaa",))
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
