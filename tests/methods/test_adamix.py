"""AdaMix: which experts run, what their average computes, and the distance between two passes."""

import copy

import pytest
import torch
from tiny_models import attach_moved, batch, language_model, text, wrapper
from torch.nn import functional as F

import methods
from bench import backbones
from methods.adamix.experts import ExpertLinear
from methods.blocks.layer_factory import LayerFactory

MAKE = LayerFactory(torch.device("cpu"), torch.float32)
D, RANK = 768, 48
SITES = {"bart": 2 * 6, "t5": 2 * 12}
PROJECTOR = {"bart": 1_582_848, "t5": 1_581_312}


@pytest.mark.parametrize(("share", "downs", "ups"), [("up", 4, 1), ("down", 1, 4), ("none", 4, 4)])
def test_parameter_counts(family, share, downs, ups):
    base = backbones.build(f"{family}-base", feat_dim=2048, device="meta")
    counted = methods.attach(base, methods.get("adamix", share=share)).count()
    a_site = downs * (D * RANK + RANK) + ups * (RANK * D + D)
    assert counted.trainable - PROJECTOR[family] == SITES[family] * a_site


def test_in_training_every_expert_is_drawn_about_as_often():
    torch.manual_seed(0)
    layer, u = ExpertLinear(4, 5, 3, "torch", MAKE), torch.randn(2, 7, 5)
    outputs = [F.linear(u, weight, bias) for weight, bias in zip(layer.weight, layer.bias, strict=True)]
    counts = [0] * 4
    for _ in range(400):
        result = layer(u)
        counts[[torch.equal(result, output) for output in outputs].index(True)] += 1
    assert min(counts) > 70
    layer(u).sum().backward()
    assert layer.weight.grad.flatten(1).any(dim=1).sum() == 1  # the others have a gradient of zero


@pytest.mark.parametrize("share", ["up", "down", "none"])
@torch.no_grad()
def test_evaluation_is_one_adapter_with_the_experts_mean_weights(family, share):
    model, single = language_model(family), language_model(family)
    attach_moved(model, methods.get("adamix", rank=6, share=share), 0.3)
    methods.attach(single, methods.get("adapter", rank=6, act="gelu_tanh", at=("enc.ff.out", "dec.ff.out")))
    averaged = {name: tensor.mean(dim=0) for name, tensor in model.pet.state_dict().items()}
    single.pet.load_state_dict(averaged)  # the tensors have the same names
    torch.testing.assert_close(model(**text()).logits, single(**text()).logits)


def test_with_one_expert_it_is_a_plain_bottleneck_in_training_too(family):
    results = []
    for method in (
        methods.get("adamix", experts=1, consistency=0.0, rank=6),
        methods.get("adapter", act="gelu_tanh", at=("enc.ff.out", "dec.ff.out"), rank=6),
    ):
        model = language_model(family, **{"dropout" if family == "bart" else "dropout_rate": 0.1})
        torch.manual_seed(1)
        methods.attach(model, method)
        model.train()
        results.append(model(**text()).logits)
    assert torch.equal(*results)


def test_the_same_generator_state_draws_the_same_experts(family):
    model = wrapper(family)
    attach_moved(model, methods.get("adamix", rank=6), 0.5)
    model.train()

    def logits(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(**batch()).logits

    assert torch.equal(logits(3), logits(3))
    assert len({logits(seed).sum().item() for seed in range(6)}) > 3
    model.eval()
    assert torch.equal(logits(3), logits(4))


def trained_pass(model, handle):
    model.train()
    torch.manual_seed(5)
    inputs = batch()
    inputs["labels"][0, 2:] = -100
    output = model(**inputs)
    (penalty,) = handle.penalties
    state = torch.get_rng_state()
    return inputs, output.logits, penalty, state


def test_the_penalty_compares_two_passes_over_the_answers_tokens(family):
    model = wrapper(family)
    handle = attach_moved(model, methods.get("adamix", rank=6, consistency=2.0), 0.5)
    inputs, first, penalty, state = trained_pass(model, handle)
    value = penalty.penalty()
    assert penalty.penalty() is None  # a pass counts once
    torch.set_rng_state(state)
    second = model(**inputs).logits
    p, q = (logits.detach().double().softmax(-1) for logits in (first, second))
    kl = 0.5 * ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1))
    torch.testing.assert_close(value.double(), 2.0 * kl[inputs["labels"] != -100].mean(), atol=1e-5, rtol=1e-4)
    assert value > 1e-4
    value.backward()
    assert all(p.grad is not None and p.grad.any() for p in handle.added().values())


def test_there_is_no_penalty_in_evaluation_without_labels_or_in_a_copy(family):
    model = wrapper(family)
    handle = attach_moved(model, methods.get("adamix", rank=6), 0.5)
    (penalty,) = handle.penalties
    model(**batch())
    assert penalty.penalty() is None
    model.train()
    model(**{key: value for key, value in batch().items() if key != "labels"})
    assert penalty.penalty() is None
    model(**batch())
    twin = copy.deepcopy(model)
    twin(**batch())
    torch.manual_seed(0)
    assert penalty.penalty() is not None
    assert not methods.attach(wrapper(family), methods.get("adamix", consistency=0.0)).penalties


def test_the_second_pass_has_the_precision_of_the_first():
    model = wrapper("bart")
    handle = attach_moved(model, methods.get("adamix", rank=6, experts=1), 0.5)
    (penalty,) = handle.penalties
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch())
    assert penalty.penalty() == 0.0  # nothing is drawn, so that only another precision could make a difference
