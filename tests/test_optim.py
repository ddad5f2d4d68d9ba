"""The optimiser and schedule against formulas written out here."""

import copy
import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from bench import optim


def test_rate_is_zero_first_peaks_after_the_warmup_and_ends_at_zero() -> None:
    rates = [optim.rate(step, 1000, 0.1) for step in range(1001)]
    assert rates[0] == 0.0
    assert rates[100] == 1.0
    assert rates[1000] == 0.0
    assert max(rates) == 1.0
    assert all(a <= b for a, b in itertools.pairwise(rates[:101]))
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))


def test_rate_without_warmup_starts_at_the_peak() -> None:
    assert optim.rate(0, 10, 0.0) == 1.0


def test_official_adamw_follows_its_formula() -> None:
    w, lr, decay = nn.Parameter(torch.tensor([2.0], dtype=torch.float64)), 0.1, 0.01
    optimiser = optim.OfficialAdamW([w], lr, decay)
    expected, m, v = 2.0, 0.0, 0.0
    for t, gradient in enumerate((0.5, -1.0, 3.0), start=1):
        w.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected -= lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-6)
        expected -= lr * decay * expected
        assert w.item() == pytest.approx(expected, rel=1e-9)


def test_official_adamw_leaves_parameters_without_gradient_alone() -> None:
    w = nn.Parameter(torch.ones(3))
    optimiser = optim.OfficialAdamW([w], 0.1, 0.5)
    optimiser.step()
    assert torch.equal(w, torch.ones(3))


def loop_step(params: Iterable[nn.Parameter], state: dict[int, dict[str, Any]], lr: float, decay: float) -> None:
    """transformers 4.2.1's update of one parameter after the other."""
    for index, p in enumerate(params):
        if p.grad is None:
            continue
        s = state.setdefault(index, {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)})
        s["step"] += 1
        s["exp_avg"].mul_(0.9).add_(p.grad, alpha=1 - 0.9)
        s["exp_avg_sq"].mul_(0.999).addcmul_(p.grad, p.grad, value=1 - 0.999)
        size = lr * ((1 - 0.999 ** s["step"]) ** 0.5 / (1 - 0.9 ** s["step"]))
        p.data.addcdiv_(s["exp_avg"], s["exp_avg_sq"].sqrt().add_(1e-6), value=-size)
        p.data.add_(p.data, alpha=-lr * decay)


def test_official_adamw_on_many_tensors_is_bit_for_bit_the_loop_over_them() -> None:
    """With parameters that get a gradient in some updates only, other dtypes, and from a checkpoint of the loop."""
    torch.manual_seed(0)
    shapes = [(3,), (), (33, 65), (2, 5, 7), (0,), (4097,)]
    start = [torch.randn(s, dtype=torch.float64 if i == 3 else torch.float32) for i, s in enumerate(shapes)]
    ours, theirs = ([nn.Parameter(t.clone()) for t in start] for _ in range(2))
    optimiser, state = optim.OfficialAdamW(ours, 0.02, 0.01), dict[int, dict[str, Any]]()
    for update in range(7):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = b.grad = None if (update + i) % 3 == 0 else torch.randn_like(a)
        optimiser.param_groups[0]["lr"] = lr = 0.02 * (update + 1)
        optimiser.step()
        loop_step(theirs, state, lr, 0.01)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        if update == 3:
            saved = {"state": copy.deepcopy(state), "param_groups": optimiser.state_dict()["param_groups"]}
            optimiser = optim.OfficialAdamW(ours, 0.02, 0.01)
            optimiser.load_state_dict(saved)
    kept = optimiser.state_dict()["state"]
    assert {i: s["step"] for i, s in kept.items()} == {i: s["step"] for i, s in state.items()}
    assert len({s["step"] for s in kept.values()}) > 1


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(4)
        self.LayerNorm = nn.LayerNorm(4)
        self.fc = nn.Linear(4, 4)
        self.tied = self.fc
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_decay_groups_follow_the_official_name_rule() -> None:
    block = Block()
    decayed, spared = optim.groups(block, 0.1, 0.01)
    assert decayed["weight_decay"] == 0.01
    assert decayed["peak"] == spared["peak"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(block.layer_norm.weight), id(block.fc.weight)}
    biases = {id(block.layer_norm.bias), id(block.LayerNorm.bias), id(block.LayerNorm.weight), id(block.fc.bias)}
    assert {id(p) for p in spared["params"]} == biases


def test_the_projector_may_have_a_learning_rate_of_its_own() -> None:
    model = nn.ModuleDict({"visual_embedding": nn.Linear(2, 2), "lm": nn.Linear(2, 2)})
    peaks = {id(p): group["peak"] for group in optim.groups(model, 0.1, 0.0, 0.5) for p in group["params"]}
    assert {peaks[id(p)] for p in model["visual_embedding"].parameters()} == {0.5}
    assert {peaks[id(p)] for p in model["lm"].parameters()} == {0.1}
    shared = optim.groups(model, 0.1, 0.0)
    assert {group["peak"] for group in shared} == {0.1}
