"""The language of ablations: what a file expands to, what cells are called, and which error a wrong one gets."""

import doctest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import methods
from bench.config import Run
from bench.errors import UsageError
from bench.recipe_files import recipe_tables
from bench.sweep import axes
from bench.sweep.axes import NamedCell, grid, stay
from bench.sweep.expand import expand
from bench.sweep.expressions import solved
from bench.sweep.spec import ABLATIONS, Cell, NamedDelta, Sweep, Variant, load, names
from methods.core.errors import MethodError

HERE = Path(__file__).parent
AXES = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))


def ablation(**fields: Any) -> list[Cell]:
    given: dict[str, Any] = {"methods": ("vl-pet-large",), "suites": ("image-text",), **fields}
    return expand(Sweep.model_validate({"name": "try", **given}))


def labels(cells: Sequence[Cell]) -> list[str]:
    return [cell.label for cell in cells]


def run(cell: Cell) -> Run:
    assert cell.run is not None, cell.reason
    return cell.run


def test_examples_in_the_documentation_hold() -> None:
    found = doctest.testmod(axes)
    assert found.attempted and not found.failed


def test_a_file_expands_to_exactly_these_names() -> None:
    """People filter, cite and plot by these names: change the list only with that in mind."""
    cells = expand(load(str(HERE / "ablation.toml")))
    lines = [f"{cell.label} | {cell.backbone} | {'run' if cell.run else 'unsupported'}" for cell in cells]
    assert all(cell.run or cell.reason for cell in cells)
    assert lines == (HERE / "ablation.txt").read_text(encoding="utf-8").splitlines()


@given(AXES)
def test_a_grid_is_the_product_of_its_axes_each_point_once(given_axes: dict[str, list[int]]) -> None:
    points = list(grid(given_axes))
    expected = 1
    for values in given_axes.values():
        expected *= len(values)
    assert len(points) == len({tuple(point.items()) for point in points}) == expected
    assert all(list(point) == list(given_axes) for point in points)
    assert all(point[name] in values for point in points for name, values in given_axes.items())


def test_zipped_axes_advance_together_and_multiply_with_the_others() -> None:
    points = list(grid({"a": [1, 2], "x": [7, 8, 9], "b": [3, 4]}, [["a", "b"]]))
    assert len(points) == 6
    assert {(point["a"], point["b"]) for point in points} == {(1, 3), (2, 4)}


@pytest.mark.parametrize(
    ("expression", "value"),
    [("=2*rank", 24), ("=rank//5 - 1", 1), ("=-rank + heads*4", 4), ("=method+'!'", "m!"), ("=rank/8", 1.5), ("=7", 7)],
)
def test_values_computed_from_the_base(expression: str, value: Any) -> None:
    assert solved({"key": expression}, {"rank": 12, "heads": 4, "method": "m"}) == {"key": value}


@pytest.mark.parametrize("text", ["=rank**2", "=__import__('os')", "=rank[0]", "=(rank", "=rank if heads else 1"])
def test_an_expression_can_do_nothing_but_arithmetic(text: str) -> None:
    with pytest.raises(UsageError, match="expression"):
        solved({"key": text}, {"rank": 12, "heads": 4})


def test_the_point_that_is_the_base_is_the_base() -> None:
    cells = ablation(axes={"gate": ("none", "large"), "rank": ("=rank", 24)})
    assert labels(cells) == [
        "vl-pet-large", "vl-pet-large,gate=none", "vl-pet-large,gate=none,rank=24", "vl-pet-large,rank=24"
    ]  # fmt: skip
    assert {cell.base for cell in cells} == {"vl-pet-large"}
    assert cells[0].point == {"gate": "large", "rank": 12}
    assert run(cells[0]) == run(expand(Sweep(name="x", methods=("vl-pet-large",), suites=("image-text",)))[0])


def test_a_name_says_what_differs_from_the_base_and_from_nothing_else() -> None:
    wide = Variant(label="wide", method="vl-pet-large", set={"rank": 24})
    cells = ablation(methods=(), variant=(wide,), axes={"rank": (12, 24), "lr": (1e-3,)})
    assert labels(cells) == ["wide", "wide,rank=12,lr=0.001", "wide,lr=0.001"]
    assert run(cells[1]).overrides == {"rank": 12}
    assert run(cells[2]).overrides == {"rank": 24}
    assert run(cells[2]).recipe.lr == 1e-3


def test_another_method_takes_the_base_name() -> None:
    cells = ablation(methods=("vl-adapter", "ia3"), axes={"method": ("=method+'+vl-pet-large'", "lora")})
    assert labels(cells) == [
        "vl-adapter", "vl-adapter+vl-pet-large", "lora", "ia3", "ia3+vl-pet-large", "lora"
    ]  # fmt: skip
    assert [cell.base for cell in cells] == ["vl-adapter"] * 3 + ["ia3"] * 3
    assert [cell.method for cell in cells] == labels(cells)
    known = "ia3+vl-pet-large" in methods.names()
    assert cells[4].run is not None if known else "unknown method 'ia3+vl-pet-large'" in cells[4].reason


def test_tasks_and_recipes_are_axes_too() -> None:
    cells = ablation(axes={"tasks": ([], ["gqa"]), "recipe": ("mini", "paper")})
    assert labels(cells)[1:] == [
        "vl-pet-large,recipe=paper", "vl-pet-large,tasks=gqa", "vl-pet-large,tasks=gqa,recipe=paper"
    ]  # fmt: skip
    assert cells[2].tasks == ("gqa",) and run(cells[3]).recipe.name == "paper"


def test_deltas_drop_and_add_each_part_alone() -> None:
    deltas = {"steepness": NamedDelta(drop={"lr": 1e-3}, add={"lr": 1e-1})}
    cells = ablation(drop=("gate", "gate+steepness"), add=("steepness",), deltas=deltas)
    assert labels(cells) == [
        "vl-pet-large", "vl-pet-large,-gate", "vl-pet-large,-gate-steepness", "vl-pet-large,+steepness"
    ]  # fmt: skip
    assert run(cells[1]).overrides == run(cells[2]).overrides == {"gate": "none"}
    tuned = recipe_tables("mini")["method.vl-pet-large"]["lr"]
    assert [run(cell).recipe.lr for cell in cells] == [tuned, tuned, 1e-3, 1e-1]


def test_what_cannot_be_had_is_unsupported_with_its_reason() -> None:
    cells = ablation(
        methods=("vl-pet-large", "lora"), axes={"heads": (5,), "rank": ("=3*heads",)}, add=("zero_init", "heads")
    )
    reasons = {cell.label: cell.reason for cell in cells}
    assert "rank 15 is not divisible" not in reasons["vl-pet-large,heads=5,rank=15"]  # 15 heads of 5 are fine
    assert reasons["vl-pet-large,+heads"] == "vl-pet-large is so already"
    assert "no option 'zero_init'" in reasons["lora,+zero_init"]
    assert "no option 'heads'" in reasons["lora,heads=5,rank=15"]
    odd = ablation(axes={"heads": (5,)})
    assert "not divisible by heads 5" in odd[1].reason and odd[1].run is None


def test_filters_keep_bases_and_choose_by_name_or_by_terms() -> None:
    given_axes = {"gate": ("none", "small", "large"), "rank": (24, 48)}
    assert labels(ablation(axes=given_axes, only=("gate=none", "rank=48,gate=l*"))) == [
        "vl-pet-large", "vl-pet-large,gate=none,rank=24", "vl-pet-large,gate=none,rank=48", "vl-pet-large,rank=48"
    ]  # fmt: skip
    left = labels(ablation(axes=given_axes, **{"except": ("vl-pet-large,rank=24", "gate=none")}))
    assert left == [
        "vl-pet-large", "vl-pet-large,gate=small,rank=24", "vl-pet-large,gate=small,rank=48", "vl-pet-large,rank=48"
    ]  # fmt: skip
    assert labels(ablation(drop=("gate", "image"), only=("-image",))) == ["vl-pet-large", "vl-pet-large,-image"]


@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_only_and_except_are_set_operations(only: set[int], but: set[int]) -> None:
    cells = [NamedCell(f"cell{i}", frozenset({f"i={i}"}), is_base=i == 0) for i in range(6)]
    kept = stay(cells, [f"i={i}" for i in only], [f"cell{i}" for i in but])
    assert {i for i, stays in enumerate(kept) if stays} == ((only or set(range(6))) - but) | {0}


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"axes": {"rnk": (1,)}}, "'rank'"),
        ({"axes": {"rank": ()}}, "'rank' has no values"),
        ({"axes": {"rank": ("big",)}}, "rank"),
        ({"axes": {"rank": ("=2*rnk",)}}, "'rank'"),
        ({"axes": {"rank": ("=2**rank",)}}, "expression"),
        ({"axes": {"seed": (1, 2)}}, "seeds = [...]"),
        ({"axes": {"backbone": ("mini-t5",)}}, "backbones = [...]"),
        ({"axes": {"method": ("lroa",)}}, "'lora'"),
        ({"axes": {"rank": (1, 2), "heads": (1,)}, "zip": (("rank", "heads"),)}, "equally many"),
        ({"axes": {"rank": (1, 2)}, "zip": (("rank", "haeds"),)}, "'haeds'"),
        ({"axes": {"rank": (1, 2), "heads": (1, 2)}, "zip": (("rank", "heads"), ("rank", "heads"))}, "in it twice"),
        ({"axes": {"rank": (24, 48)}, "only": ("rnak=24",)}, "'rank=24'"),
        ({"axes": {"rank": (24, 48)}, "except": ("rank=25",)}, "'rank=24'"),
        ({"methods": ("lora", "full"), "except": ("method=*",)}, "leave no cell"),
        ({"drop": ("gates",)}, "'gate'"),
        ({"add": ("image",)}, "delta to add"),
        ({"plot": "heat"}, "plot"),
    ],
)
def test_a_wrong_ablation_is_one_clear_error(tmp_path: Path, wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises((UsageError, MethodError, ValueError)) as told:
        ablation(**wrong)
    assert hint in str(told.value)


@pytest.mark.parametrize("name", names(ABLATIONS))
def test_every_built_in_ablation_asks_a_question_and_can_be_planned(name: str) -> None:
    asked = load(name)
    assert asked.question.count("?") == 1 and "\n" not in asked.question
    assert asked.is_ablation and asked.plot
    for backbone, data in (("mini-bart", None), ("bart-base", "official")):
        cells = expand(asked.model_copy(update={"backbones": (backbone,), "data": data}))
        runs = [cell for cell in cells if cell.run]
        assert len({cell.label for cell in runs}) > len({cell.base for cell in runs})
        assert all(cell.run for cell in cells if cell.label == cell.base)
        assert {run(cell).recipe.name for cell in runs} == {"mini" if backbone == "mini-bart" else "paper"}


def test_names_of_ablations_and_sweeps_differ() -> None:
    assert len(names(ABLATIONS)) >= 10
    assert not set(names()) & set(names(ABLATIONS))
