"""From a sweep file and flags to an ordered list of cells."""

from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.sweep import spec
from bench.sweep.expand import expand
from bench.sweep.spec import Sweep, Variant, changed, load
from methods.core.errors import MethodError

SPEC = """
backbones = ["bart-base"]
methods = ["lora", "full", "vl-pet-middle"]
suites = ["video-text", "image-text"]
seeds = [1, 5]
set = { epochs = 3, "recipe.dropout" = 0.2 }

[per.image-text]
beams = 2

[per.lora]
rank = 16
beams = 4

[[variant]]
label = "blind"
method = "full"
set = { visual = "zero", lr = 0.5 }
"""


def sweep(**fields: Any) -> Sweep:
    return Sweep(name="try", backbones=("bart-base",), **fields)


def test_a_file_expands_to_this(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(SPEC)
    asked = load(str(file))
    assert asked.name == "mine"
    rows = []
    for cell in expand(asked):
        assert cell.run is not None
        recipe = cell.run.recipe
        assert (recipe.epochs, recipe.dropout) == (3, 0.2)
        rows.append((cell.label, cell.suite, cell.seed, recipe.beams, recipe.batch_size, recipe.lr, recipe.visual))
    assert rows == [
        ("lora [rank=16]", "video-text", 1, 4, 50, 3e-4, "features"),
        ("lora [rank=16]", "video-text", 5, 4, 50, 3e-4, "features"),
        ("full", "video-text", 1, 5, 50, 3e-5, "features"),
        ("full", "video-text", 5, 5, 50, 3e-5, "features"),
        ("vl-pet-middleX", "video-text", 1, 5, 50, 7e-4, "features"),
        ("vl-pet-middleX", "video-text", 5, 5, 50, 7e-4, "features"),
        ("blind", "video-text", 1, 5, 50, 0.5, "zero"),
        ("blind", "video-text", 5, 5, 50, 0.5, "zero"),
        ("lora [rank=16]", "image-text", 1, 4, 500, 1e-3, "features"),
        ("lora [rank=16]", "image-text", 5, 4, 500, 1e-3, "features"),
        ("full", "image-text", 1, 2, 500, 1e-4, "features"),
        ("full", "image-text", 5, 2, 500, 1e-4, "features"),
        ("vl-pet-middleX", "image-text", 1, 2, 500, 1e-3, "features"),
        ("vl-pet-middleX", "image-text", 5, 2, 500, 1e-3, "features"),
        ("blind", "image-text", 1, 2, 500, 0.5, "zero"),
        ("blind", "image-text", 5, 2, 500, 0.5, "zero"),
    ]


def test_the_default_sweep_is_nine_methods_on_both_suites() -> None:
    cells = expand(load("default"))
    assert len(cells) == 18
    assert {cell.suite for cell in cells} == {"image-text", "video-text"}
    assert {cell.backbone for cell in cells} == {"mini-bart"}
    assert len({cell.method for cell in cells}) == 9
    assert all(cell.run is not None for cell in cells)
    assert len({cell.run_id for cell in cells}) == 18


@pytest.mark.parametrize("name", spec.names())
def test_built_in_sweeps_have_no_unsupported_cell(name: str) -> None:
    asked = load(name)
    offline = {"facebook/bart-base": "bart-base"}
    cells = expand(changed(asked, backbones=tuple(offline.get(b, b) for b in asked.backbones)))
    assert cells
    assert all(cell.run is not None for cell in cells)


def test_more_seeds_only_add_runs() -> None:
    one = {cell.run_id for cell in expand(sweep(methods=("lora", "full")))}
    three = {cell.run_id for cell in expand(sweep(methods=("lora", "full"), seeds=(1, 2, 3)))}
    assert one < three
    assert len(three) == 3 * len(one)


def test_the_same_run_is_planned_once() -> None:
    assert len(expand(sweep(methods=("vl-pet-middle", "vl-pet-middleX"), suites=("image-text",), seeds=(1, 1)))) == 1


def test_tasks_choose_their_suites() -> None:
    cells = expand(sweep(methods=("lora",), tasks=("tvqa", "gqa", "vqa")))
    assert [(cell.suite, cell.tasks) for cell in cells] == [("image-text", ("vqa", "gqa")), ("video-text", ("tvqa",))]


def test_an_option_that_a_method_lacks_is_an_unsupported_cell_with_the_reason() -> None:
    cells = expand(sweep(methods=("lora", "full"), suites=("image-text",), set={"rank": 8}))
    assert [cell.run is not None for cell in cells] == [True, False]
    assert "no option 'rank'" in cells[1].reason


def test_a_file_narrowed_by_flags_keeps_its_refinements(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(SPEC)
    cells = expand(changed(load(str(file)), methods=("full",), suites=("image-text",), variant=(), seeds=None))
    assert [(cell.label, cell.seed, cell.run.recipe.beams) for cell in cells if cell.run] == [
        ("full", 1, 2),
        ("full", 5, 2),
    ]


def test_settings_of_the_command_line_are_stronger_than_the_file_but_not_than_a_variant() -> None:
    blind = Variant(label="blind", method="lora", set={"visual": "zero"})
    per = {"paper": {"epochs": 7, "beams": 2}, "lora": {"beams": 3}}
    asked = sweep(methods=("lora",), variant=(blind,), suites=("image-text",), per=per)
    cells = expand(changed(asked, given={"epochs": 9, "visual": "features"}))
    assert [(c.run.recipe.epochs, c.run.recipe.beams, c.run.recipe.visual) for c in cells if c.run] == [
        (9, 3, "features"),
        (9, 3, "zero"),
    ]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({}, "names no method"),
        ({"methods": ("lroa",)}, "'lora'"),
        ({"methods": ("lora",), "suites": ("image-txt",)}, "'image-text'"),
        ({"methods": ("lora",), "tasks": ("vqaa",)}, "'vqa'"),
        ({"methods": ("lora",), "tasks": ("vqa",), "suites": ("video-text",)}, "selects nothing"),
        ({"methods": ("lora",), "recipe": "papr"}, "'paper'"),
        ({"methods": ("lora",), "set": {"rnk": 3}}, "'rank'"),
        ({"methods": ("lora", "full"), "set": {"method.rnk": 3}}, "'rank'"),
        ({"methods": ("lora",), "set": {"rank": "big"}}, "rank"),
        ({"methods": ("lora",), "set": {"steps": 0}}, "recipe.steps"),
        ({"methods": ("lora",), "per": {"lroa": {"steps": 1}}}, "'lora'"),
        ({"methods": ("lora",), "per": {"lora": {"heads": 1}}}, "'heads'"),
        ({"variant": (Variant(label="x", method="full", set={"rank": 3}),)}, "'rank'"),
        ({"variant": (Variant(label="vl-pet-large", method="lora"),)}, "name of another method than 'lora'"),
    ],
)
def test_a_wrong_sweep_is_one_clear_error(wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises((UsageError, MethodError)) as told:
        expand(sweep(**wrong))
    assert hint in str(told.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("methods = [", "not valid TOML"),
        ("methds = ['lora']", "'methods'"),
        ("methods = 'lora'", "methods: Input should be a list"),
        ("seeds = ['one']", r"seeds\.0"),
        ("[[variant]]\nlabel = 'x'\nmethd = 'full'", r"variant\.0\.methd: .*did you mean 'method' "),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, hint: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"mine.toml.*{hint}"):
        load(str(file))


def test_an_unknown_sweep_has_near_matches() -> None:
    with pytest.raises(UsageError, match="'default'"):
        load("defalt")
    with pytest.raises(UsageError, match=r"none\.toml: no such sweep file"):
        load("none.toml")
