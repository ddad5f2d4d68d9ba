"""UniAdapter: written out row by row."""

import copy

import pytest
import torch
from related_models import (
    CLOSE,
    FEATS,
    model,
    padded,
    recorded,
    seen,
    text,
)
from torch import Tensor

import methods


def layer_norm(u: Tensor, norm) -> Tensor:
    centred = u - u.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("cross_modal", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@torch.no_grad()
def test_uniadapter_is_the_formula_row_by_row(family, cross_modal, residual):
    options = {"rank": 8, "delta_scale": 0.7, "cross_modal": cross_modal, "query_residual": residual}
    built, recorders = recorded(family, methods.get("uniadapter", **options))
    ids = padded(text(), 4, built)
    built(ids, seen(), labels=text(length=3))
    for i in (0, 1):
        modal = built.pet[f"both_{i}_ff"]

        def z(u: Tensor, modal=modal) -> Tensor:
            return (layer_norm(u, modal.norm) @ modal.down.weight.T + modal.down.bias).clamp(min=0)

        def up(name: str, u: Tensor, modal=modal) -> Tensor:
            return z(u) @ modal.up[name].weight.T + modal.up[name].bias

        found, change = recorders["enc"].found[i], recorders["enc"].changes()[i]
        written = torch.stack([up("text" if n < 6 else "visual", found["x"][:, n]) for n in range(15)], dim=1)
        torch.testing.assert_close(change, 0.7 * written, **CLOSE)

        found, change = recorders["dec"].found[i], recorders["dec"].changes()[i]
        written = up("cross", found["x"])
        if cross_modal:
            written = layer_norm(written + up("text", found["x"]), built.pet[f"dec_{i}_ff_out"].delta.norm)
        if residual:
            written = written + up("text", found["q"])
        torch.testing.assert_close(change, 0.7 * written, **CLOSE)


@torch.no_grad()
def test_uniadapter_routes_rows_by_modality(family):
    """What is for visual tokens touches no text row before attention mixes them, and the other way round."""
    built, recorders = recorded(family, methods.get("uniadapter", rank=8))
    ids, feats = text(), seen(images=2)
    built(ids, feats)
    before = recorders["enc"].changes()[0]
    for name, moved, still in (("visual", slice(6, None), slice(6)), ("text", slice(6), slice(6, None))):
        kept = copy.deepcopy(built.pet["both_0_ff"].up.state_dict())
        built.pet["both_0_ff"].up[name].weight.add_(1.0)
        built(ids, feats)
        change = recorders["enc"].changes()[0]
        assert torch.equal(change[:, still], before[:, still])
        assert ((change - before)[:, moved].abs().amax(-1) > 1e-3).all()
        built.pet["both_0_ff"].up.load_state_dict(kept)
    built(ids, torch.zeros(2, 0, FEATS))  # all rows are text
    assert recorders["enc"].changes()[0].shape[1] == 6


@torch.no_grad()
def test_uniadapter_with_stacks_of_different_depth(family):
    depth = {"decoder_layers": 3} if family == "bart" else {"num_decoder_layers": 3}
    built = model(family, **depth)
    handle = methods.attach(built, methods.get("uniadapter", rank=8))
    ups = [sorted(built.pet[f"both_{i}_ff"].up) for i in range(3)]
    assert ups == [["cross", "text", "visual"]] * 2 + [["cross", "text"]]
    built(text(), seen())
    assert "both.ff, layers 0-1: norm.weight" in methods.explain(handle)
