"""What ``methods.explain`` says of a method: its shapes and numbers, whatever the layout."""

import re

import pytest
from tiny_models import FAMILIES, wrapper

import methods
from bench import backbones


def said(handle: methods.Handle) -> str:
    """The text, its numbers without separators of thousands and shapes as ``a x b``."""
    return re.sub(r"(?<=\d)[,_](?=\d{3})", "", methods.explain(handle))


@pytest.mark.parametrize(
    "family, facts",
    [
        (
            "bart",
            ["6052416", "145606464", "4.16", "1582848", "19968", r"96 x 768", r"768 x 96", r"heads? ?:?=? ?4|4 heads"],
        ),
        ("t5", ["17582208", "240521856", "7.31", "1581312", "19200", r"192 x 768", r"768 x 192", r"96 x 768", "0.3"]),
    ],
)
def test_vl_pet_large_on_the_real_shapes(family, facts):
    handle = methods.attach(backbones.build(f"{family}-base", feat_dim=2048, device="meta"), "vl-pet-large")
    text = said(handle)
    for fact in [*facts, r"enc\.sa\.out", r"enc\.ff\.out", r"dec\.xa\.v", "norm"]:
        assert re.search(fact, text), fact


@pytest.mark.parametrize(
    "name, options, facts",
    [
        ("vl-pet-large", {"scale": 0.7, "delta_scale": 0.45, "h_scale": 0.55}, ["0.7", "0.45", "0.55"]),
        ("vl-pet-small", {}, ["1 x 64"]),
        ("vl-pet-middleX", {"gate_input": "cat(x,h)"}, ["1 x 64"]),
        ("vl-pet-large", {"layers": (1,)}, ["layers? ?:?=? ?\\[?1"]),
        ("lora", {"rank": 6, "alpha": 9.0}, ["6 x 32", "1.5"]),
        ("compacter", {"rank": 8, "phm": 4}, ["4 x 4 x 4", "4 x 8 x 2"]),
        ("prompt", {"length": 7, "mid": 9}, ["7 x 32", "9 x 32", "32 x 9"]),
        ("hyperformer", {"task_dim": 10}, ["2 x 10"]),
    ],
)
def test_options_show(name, options, facts):
    text = said(methods.attach(wrapper("bart"), methods.get(name, **options)))
    for fact in facts:
        assert re.search(fact, text), fact


@pytest.mark.parametrize("index, name", list(enumerate(methods.names())))
def test_every_trained_shape_and_the_counts_are_there(index, name):
    handle = methods.attach(wrapper(FAMILIES[index % 2]), name)
    text, count = said(handle), handle.count()
    for path, parameter in handle.trained().items():
        if path.startswith("pet."):
            assert " x ".join(map(str, parameter.shape)) in text, path
    numbers = {int(number) for number in re.findall(r"\d+", text)}
    assert {count.trainable, count.total} <= numbers
    assert f"{count.percent:.2f}" in text
