"""HyperFormer: hooked layers against adapters generated as its formulas have it."""

from typing import Any

import pytest
import torch
from tiny_models import language_model, perturb
from torch import Tensor
from written_out import Inputs, layer_norm, tanh_gelu

import methods
from methods.core import context

R, DIM, HIDDEN, E = 6, 10, 7, 5
TASKS = ("vqa", "gqa")


@pytest.fixture
def lm(family):
    lm = language_model(family).double()
    options = {"rank": R, "task_dim": DIM, "hidden": HIDDEN, "e": E}
    methods.attach(lm, methods.get("hyperformer", **options), tasks=TASKS)
    perturb(lm.pet, 0.3)
    return lm


def linear(module: Any, u: Tensor) -> Tensor:
    return module.weight @ u + module.bias


def adapter(pet: Any, task: str, stack: str, layer: int, block: str, u: Tensor) -> Tensor:
    """up(gelu(down(u))) with weights from c = LN(P_2 · relu(P_1 · [v ; l]))."""
    generator, d = pet[f"{stack}_generator"], u.shape[-1]
    pair = torch.cat([pet["tasks"].vectors[task], generator.layers[layer]])
    c = layer_norm(linear(generator.up, linear(generator.down, pair).clamp(min=0)), generator.norm)
    own = generator.blocks[block]
    w_down, b_down = linear(own.down_weight, c).reshape(R, d), linear(own.down_bias, c)
    w_up, b_up = linear(own.up_weight, c).reshape(d, R), linear(own.up_bias, c)
    return tanh_gelu(u @ w_down.T + b_down) @ w_up.T + b_up


@pytest.mark.parametrize("stack, blocks", [("enc", ("sa", "ff")), ("dec", ("sa", "xa", "ff"))])
@pytest.mark.parametrize("layer", [0, 1])
@torch.no_grad()
def test_hooked_layers_are_the_formula(lm, stack, blocks, layer):
    for task in TASKS:

        def change(point: str, x: Tensor, h: Tensor, normed: Tensor, task: str = task) -> Tensor:
            if point not in [f"{block}.out" for block in blocks]:
                return h
            return h + adapter(lm.pet, task, stack, layer, point[:2], h)

        # T5's layer 0 would add its own relative bias to the scores; without it, it is like any other.
        table = getattr(getattr(lm, "encoder", None), "block", None)
        if table is not None and layer == 0:
            for own in (lm.encoder, lm.decoder):
                own.block[0].layer[0].SelfAttention.relative_attention_bias.weight.zero_()
        with context.task(task):
            Inputs().compare(lm, stack, change, index=layer)


def test_networks_are_one_a_stack_and_task_vectors_common_to_both(lm):
    sizes = {name: tuple(p.shape) for name, p in lm.pet.named_parameters()}
    d, layers = 32, 2
    assert {n: s for n, s in sizes.items() if n.startswith("tasks")} == {f"tasks.vectors.{t}": (DIM,) for t in TASKS}
    encoder = DIM * layers + (2 * DIM * HIDDEN + HIDDEN) + (HIDDEN * E + E) + 2 * E
    a_block = 2 * (E + 1) * d * R + (E + 1) * (R + d)
    assert sum(p.numel() for p in lm.pet.parameters()) == len(TASKS) * DIM + 2 * encoder + 5 * a_block
    assert lm.pet["enc_generator"].norm.eps == 1e-6
