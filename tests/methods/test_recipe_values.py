"""Learning rates, weight decay and task prefixes of the published recipes, by method, backbone and suite."""

import pytest

import methods
from bench.config import resolve

IMAGE, VIDEO = "image-text", "video-text"

# method, backbone, suite, learning rate, task prefix
PUBLISHED = [
    ("full", "bart", IMAGE, 1e-4, False),
    ("full", "bart", VIDEO, 3e-5, True),
    ("full", "t5", IMAGE, 1e-4, True),
    ("bitfit", "bart", IMAGE, 1e-3, True),
    ("bitfit", "t5", IMAGE, 3e-3, True),
    ("prompt", "bart", IMAGE, 1e-3, True),
    ("prompt", "bart", VIDEO, 3e-4, True),
    ("prompt", "t5", IMAGE, 3e-3, True),
    ("compacter", "bart", IMAGE, 1e-3, True),
    ("hyperformer", "bart", IMAGE, 1e-3, False),
    ("lora", "bart", IMAGE, 1e-3, True),
    ("lora", "bart", VIDEO, 3e-4, True),
    ("lora", "t5", IMAGE, 3e-4, True),
    ("vl-adapter", "bart", IMAGE, 1e-3, True),
    ("vl-adapter", "bart", VIDEO, 3e-4, True),
    ("vl-adapter", "t5", IMAGE, 3e-4, True),
    ("vl-adapter-multiple", "bart", IMAGE, 3e-4, False),
    *[
        (f"vl-pet-{size}", family, suite, rate, True)
        for size in ("small", "middleX", "middleY", "large")
        for family, suite, rate in (("bart", IMAGE, 1e-3), ("bart", VIDEO, 7e-4), ("t5", IMAGE, 3e-4))
    ],
    *[
        (f"{base}+vl-pet-{size}", "bart", IMAGE, 1e-3, True)
        for base in ("compacter", "vl-adapter")
        for size in ("small", "middleX", "middleY", "large")
    ],
]


@pytest.mark.parametrize("name, family, suite, rate, prefix", PUBLISHED)
def test_published_values(name, family, suite, rate, prefix):
    assert methods.get(name).optim(family, suite) == methods.OptimizerSettings(
        rate, weight_decay=0.01, task_prefix=prefix
    )


def test_lst_decays_more():
    assert methods.get("lst").optim("t5", IMAGE) == methods.OptimizerSettings(3e-3, weight_decay=0.03, task_prefix=True)


@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize("suite", [IMAGE, VIDEO])
def test_a_run_on_the_real_backbones_gets_them(name, family, suite):
    """And every method has some, per task ones without prefixes, for which task they are is known otherwise."""
    recipe = resolve(f"{family}-base", name, suite).recipe
    optim = methods.get(name).optim(family, suite)
    assert (recipe.lr, recipe.weight_decay, recipe.task_prefix) == (optim.lr, optim.weight_decay, optim.task_prefix)
    shape = methods.Shape(family, 768, 3072, 12, 768, 6, 6, 50465)
    assert not (methods.get(name).spec(shape).per_task and optim.task_prefix)


@pytest.mark.parametrize(
    "family, name, options",
    [
        ("bart", "vl-pet-large", {"rank": 96, "heads": 4, "gate_rank": 96, "decoder_rank": 96, "scale": 1.0}),
        ("t5", "vl-pet-large", {"rank": 192, "heads": 4, "gate_rank": 192, "decoder_rank": 96, "scale": 0.3}),
        ("bart", "vl-pet-small", {"zero_init": False, "norms": "enc", "decoder": "value", "arrange": "down"}),
        ("t5", "vl-pet-small", {"zero_init": True, "norms": "enc", "decoder": "value", "arrange": "down"}),
        ("bart", "vl-adapter", {"rank": 96, "norms": "all", "share": "all"}),
        ("t5", "vl-adapter", {"rank": 192, "norms": "none"}),
        ("bart", "lora", {"rank": 128, "alpha": 32.0, "dropout": 0.1, "biases": "all"}),
        ("t5", "lora", {"rank": 150, "alpha": 32.0, "biases": "none"}),
        ("bart", "compacter", {"rank": 96, "phm": 2, "phm_rank": 0, "phm_shared": False}),
        ("bart", "compacter-original", {"rank": 24, "phm": 4, "phm_rank": 1, "phm_shared": True}),
        ("bart", "hyperformer", {"rank": 96, "e": 8, "task_dim": 512, "hidden": 128}),
        ("t5", "prompt", {"length": 40, "mid": 800}),
        ("bart", "adapter", {"rank": 48, "act": "silu", "cross_adapter": False}),
        ("bart", "pfeiffer", {"rank": 48, "act": "relu"}),
        ("t5", "parallel", {"rank": 384, "delta_scale": 4.0}),
    ],
)
def test_sizes_of_the_published_models(family, name, options):
    shape = methods.Shape(family, 768, 3072, 12, 768, 12, 12, 32200)
    found = methods.get(name).options(shape)
    assert {key: found[key] for key in options} == options
