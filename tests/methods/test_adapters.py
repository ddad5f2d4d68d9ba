"""Adapters, their matrices and norms: hooked HF layers against layers written out from the formulas."""

from typing import Any

import pytest
import torch
from tiny_models import language_model, perturb
from torch import Tensor
from written_out import Change, Inputs, bottleneck, layer_norm, layers, matrix

import methods


def attached(family: str, name: str, **options: Any) -> Any:
    lm = language_model(family).double()
    methods.attach(lm, methods.get(name, **options))
    perturb(lm.pet, 0.3)
    return lm


def sequential(points: set[str], lm: Any, stack: str, **shape: Any) -> Change:
    """H + A(H) at ``points``."""

    def change(point: str, x: Tensor, h: Tensor, normed: Tensor) -> Tensor:
        if point not in points:
            return h
        return h + bottleneck(h, lm.pet[f"{stack}_1_{point.replace('.', '_')}"].delta, **shape)

    return change


EVERYWHERE = {"enc": {"sa.out", "ff.out"}, "dec": {"sa.out", "xa.out", "ff.out"}}
NO_CROSS = {"enc": {"sa.out", "ff.out"}, "dec": {"sa.out", "ff.out"}}


@pytest.mark.parametrize(
    "name, options, where, shape",
    [
        ("adapter", {}, NO_CROSS, {"act": "silu"}),
        ("adapter", {"cross_adapter": True, "act": "tanh"}, EVERYWHERE, {"act": "tanh"}),
        ("vl-adapter", {"delta_scale": 0.4}, EVERYWHERE, {"scale": 0.4}),
        ("vl-adapter", {"factor": 2, "act": "relu"}, EVERYWHERE, {"act": "relu"}),
        ("compacter", {"rank": 8, "phm": 4}, EVERYWHERE, {}),
        ("compacter", {"rank": 8, "phm": 2, "phm_rank": 3}, EVERYWHERE, {}),
        ("compacter-original", {"rank": 8}, EVERYWHERE, {}),
    ],
)
@torch.no_grad()
def test_sequential_adapters(family, name, options, where, shape):
    lm = attached(family, name, **options)
    for stack, points in where.items():
        Inputs().compare(lm, stack, sequential(points, lm, stack, **shape))


@torch.no_grad()
def test_new_norms_stand_before_the_adapter_and_behind_its_scale(family):
    """The order is LN, A, scale, LN, sum."""
    lm = attached(family, "vl-adapter", ln_before=True, ln_after=True, delta_scale=0.4)

    def change(point: str, x: Tensor, h: Tensor, normed: Tensor) -> Tensor:
        if point not in EVERYWHERE["dec"]:
            return h
        module = lm.pet[f"dec_1_{point.replace('.', '_')}"].delta
        return h + layer_norm(bottleneck(layer_norm(h, module.before), module, scale=0.4), module.after)

    Inputs().compare(lm, "dec", change)


@torch.no_grad()
def test_pfeiffer_reads_what_the_block_gives(family):
    """LN(H + X) on BART, whose norm is then applied again; H + X on T5."""
    lm = attached(family, "pfeiffer")
    for stack in ("enc", "dec"):

        def change(point: str, x: Tensor, h: Tensor, normed: Tensor, stack: str = stack) -> Tensor:
            if point != "ff.out":
                return h
            y = h + x if family == "t5" else layer_norm(h + x, layers(lm, stack)[1].final_layer_norm)
            return h + bottleneck(y, lm.pet[f"{stack}_1_ff_out"].delta, act="relu")

        Inputs().compare(lm, stack, change)


@torch.no_grad()
def test_parallel_reads_what_the_ffn_reads(family):
    """X on BART, RMS(X) on T5; times 4."""
    lm = attached(family, "parallel")
    for stack in ("enc", "dec"):

        def change(point: str, x: Tensor, h: Tensor, normed: Tensor, stack: str = stack) -> Tensor:
            if point != "ff.out":
                return h
            return h + bottleneck(normed, lm.pet[f"{stack}_1_ff_out"].delta, act="relu", scale=4.0)

        Inputs().compare(lm, stack, change)


@torch.no_grad()
def test_one_rule_for_all_matrices_or_one_for_each(family):
    lm = attached(family, "compacter-original", rank=8)
    rules = [m.rule for module in lm.pet.values() for m in (module.delta.down, module.delta.up)]
    assert len(rules) == 20 and len({id(rule) for rule in rules}) == 1
    assert all(torch.linalg.matrix_rank(m.left @ m.right).eq(1).all() for m in [lm.pet["dec_0_xa_out"].delta.down])
    own = attached(family, "compacter", rank=8)
    assert len({id(m.rule) for module in own.pet.values() for m in (module.delta.down, module.delta.up)}) == 20
    phm = own.pet["enc_0_sa_out"].delta.down
    a, b = phm.rule[1], phm.slices[1]
    (height, width), whole = b.shape, matrix(phm) - torch.kron(phm.rule[0], phm.slices[0])
    torch.testing.assert_close(whole[height:, :width], a[1, 0] * b)  # block (1, 0) of A ⊗ B


@pytest.mark.parametrize("factor, rank", [(1, 1), (3, 3)])
@torch.no_grad()
def test_a_factored_matrix_has_the_rank_of_its_factors(factor, rank):
    lm = attached("bart", "vl-adapter", factor=factor, rank=8)
    delta = lm.pet["enc_0_sa_out"].delta
    assert [int(torch.linalg.matrix_rank(matrix(m))) for m in (delta.down, delta.up)] == [rank, rank]
