"""What a plan may hold and what things may be called is checked before anything is expanded."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.sweep import axes
from bench.sweep.expand import expand
from bench.sweep.expressions import LARGEST, LONGEST, names_in, solved
from bench.sweep.spec import Sweep, Variant, check_file_name, check_label, load
from methods.core.errors import MethodError


def sweep(**fields: Any) -> Sweep:
    return Sweep.model_validate({"name": "try", "methods": ("lora",), "suites": ("image-text",), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"axes": {"steps": range(1, 1001), "batch_size": range(1, 1001)}},
        {"axes": {key: range(1, 1001) for key in ("steps", "batch_size", "eval_batch_size")}},
        {"seeds": range(30_000)},
        {"methods": ("lora", "full"), "seeds": range(50), "axes": {"steps": range(1, 250)}},
        {"max_cells": 3, "seeds": (1, 2, 3, 4)},
    ],
)
def test_a_plan_has_a_bound_that_is_told_at_once(fields: dict[str, Any]) -> None:
    fields = {key: {k: tuple(v) for k, v in value.items()} if key == "axes" else value for key, value in fields.items()}
    begin = time.process_time()
    with pytest.raises(UsageError, match=r"too many cells.*--max-cells"):
        expand(sweep(**{key: tuple(value) if isinstance(value, range) else value for key, value in fields.items()}))
    assert time.process_time() - begin < 2


def test_the_bound_is_lifted() -> None:
    assert len(expand(sweep(seeds=tuple(range(20)), max_cells=20))) == 20


@pytest.mark.parametrize(
    "text",
    [
        '="a"*99999999999',
        "=" + "-" * 20_000 + "1",
        "=" + "(" * 3_000 + "1" + ")" * 3_000,
        "=" + "(" * 95 + "1" + ")" * 95 + "*",
        "=" + "*".join(["9" * 40] * 3_000),
        "=9999999999*9999999999",
        "=1e308*10",
        "=1/0",
        "=1j",
        "=b'a'",
        "=...",
        "=True+1",
        "=__import__('os')",
        "=lr.real",
        "=rank**2",
    ],
)
def test_an_expression_is_bounded_and_its_axis_named(text: str) -> None:
    with pytest.raises(UsageError, match="axis steps") as caught:
        expand(sweep(axes={"steps": (text,)}))
    assert len(str(caught.value)) < 400


@given(st.text(st.sampled_from("0123456789.e+-*/()ab'\" "), max_size=60))
def test_no_expression_builds_anything_large(text: str) -> None:
    try:
        names_in(f"={text}")
        (value,) = solved({"x": f"={text}"}, {"a": 3, "b": "text"}).values()
    except (UsageError, LookupError, ArithmeticError, TypeError):
        return
    assert abs(value) <= LARGEST if isinstance(value, int | float) else len(value) <= LONGEST


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"axes": {"method": (5,)}}, "axis method"),
        ({"axes": {"tasks": (5,)}}, "axis tasks"),
        ({"axes": {"tasks": ("gqa",)}}, "axis tasks: 'gqa'"),
        ({"axes": {"tasks": (["nosuch"],)}}, "nosuch"),
        ({"axes": {"recipe": (5,)}}, "axis recipe"),
        ({"axes": {"data": (5,)}}, "axis data"),
        ({"axes": {"data": ("../x",)}}, "axis data"),
        ({"steps": (("lr", "steps"),)}, "there are no axes"),
        ({"axes": {"lr": (0.1,)}, "steps": (("lr",),)}, "two or more"),
        ({"seeds": (True,)}, "seeds"),
        ({"recipe": ""}, "recipe"),
        ({"name": "../../x"}, "is no name"),
        ({"data": "a/b"}, "is no name"),
    ],
)
def test_values_of_places_are_typed(wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises((UsageError, ValueError), match=hint):
        expand(sweep(**{{"steps": "zip"}.get(key, key): value for key, value in wrong.items()}))


def test_what_the_command_line_sets_is_no_field_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text("methods = ['lora']\ngiven = {lr = 1.0}\n")
    with pytest.raises(UsageError, match=r"case\.toml: given"):
        load(str(path))


def test_an_error_of_a_plan_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text("methods = ['lora']\nsuites = ['image-text']\naxes = {lr = [1e-3]}\nexcept = ['nosuch']\n")
    with pytest.raises(UsageError, match=r"case\.toml: .*except.*nosuch"):
        expand(load(str(path)))


NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "a,b",
    "a\nb",
    "a\0b",
    "\x1b[31m",
    " a",
    "a ",
    "-a",
    ".a",
    "a..b",
    "x" * 101,
]


@pytest.mark.parametrize("name", [*NAMES, "a@2", "模" * 40])
def test_names_of_files_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        check_file_name(name)


@pytest.mark.parametrize("name", ["default", "my sweep (2)", "vqa_v2.1", "größe-3", "lora+adapter"])
def test_usual_names_are_names(name: str) -> None:
    assert check_file_name(name) == name


@pytest.mark.parametrize("label", ["", " ", "a,b", "a\nb", "a\u2028b", "\x1b[31mred", "\u202eabc", " a", "x" * 101])
def test_a_label_is_one_printable_line_without_commas(label: str) -> None:
    with pytest.raises(ValueError, match="is no label"):
        check_label(label)


@pytest.mark.parametrize("label", ["w/o gate", "lora ($\\rank=8$)", "<b>", "λ-gate é 模", "=1+1", "..."])
def test_labels_may_have_what_tables_escape(label: str) -> None:
    assert check_label(label) == label
    (cell,) = expand(sweep(methods=(), variant=(Variant(label=label, method="full", set={"lr": 0.1}),)))
    assert cell.label == label


OURS = {"label": "ours", "method": "lora", "set": {"rank": 4}}


@pytest.mark.parametrize(
    "fields",
    [
        {"methods": (), "variant": (OURS, {**OURS, "set": {"rank": 16}})},
        {"methods": (), "variant": (OURS, {**OURS, "method": "full", "set": {}})},
        {"methods": ("lora",), "variant": ({**OURS, "label": "lora"},)},
        {"methods": ("vl-pet-middle",), "variant": ({**OURS, "label": "vl-pet-middleX"},)},
        {"variant": ({**OURS, "label": "full"},), "axes": {"method": ("full",)}},
    ],
)
def test_two_things_under_one_label_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="label"):
        expand(sweep(**fields))


def test_one_thing_twice_under_one_label_is_one_row() -> None:
    assert len(expand(sweep(methods=(), variant=(OURS, OURS)))) == 1


def test_values_that_a_name_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(UsageError, match="two different runs are called"):
        expand(sweep(axes={"lr": (0.00123456781, 0.00123456789)}))


def test_terms_are_split_in_linear_time() -> None:
    begin = time.process_time()
    assert len(axes.terms(",".join(map(str, range(100_000))))) == 100_000
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["lr", "alpha", "weight_decay", "warmup"])
def test_no_setting_is_nan_or_infinite(key: str, value: float) -> None:
    with pytest.raises((UsageError, MethodError), match=key):
        cells = expand(sweep(set={key: value}))
        raise UsageError(cells[0].reason)
