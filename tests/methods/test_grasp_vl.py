"""GraSP-VL: the rotation of the features written out, its start, its prefixes in training and evaluation."""

import pytest
import torch
from related_models import CLOSE, FEATS, model, seen, text
from tiny_models import perturb

import methods
from bench import backbones
from bench.config import resolve
from methods import MethodError


def attached(family: str, **options):
    built = model(family)
    handle = methods.attach(built, methods.get("grasp-vl", **options))
    return built, handle, built.pet["features"]


def moved(family: str, **options):
    built, handle, rotation = attached(family, **options)
    torch.manual_seed(1)
    perturb(rotation, 0.5)
    return built, handle, rotation


@torch.no_grad()
def test_it_is_the_cayley_transform_written_out(family):
    built, handle, rotation = moved(family, rank=2)
    b, c = rotation.left.double(), rotation.right.double()
    half, eye = (b @ c.T - c @ b.T) / 2, torch.eye(FEATS, dtype=torch.double)
    u = torch.linalg.inv(eye - half) @ (eye + half)
    torch.testing.assert_close(u.T @ u, eye)
    x = seen(images=2)
    torch.testing.assert_close(rotation(x), (x.double() @ u).float(), **CLOSE)
    plain = model(family)
    expected = plain(text(), (x.double() @ u).float()).logits
    torch.testing.assert_close(built(text(), x).logits, expected, **CLOSE)
    assert 0 < handle.diagnostics()["orthogonality error"] < 1e-5
    assert "orthogonality error: " in methods.explain(handle)
    rotation.left.mul_(1 + 1e-2 * torch.randn(()))  # any B and C give a rotation
    assert handle.diagnostics()["orthogonality error"] < 1e-5


@pytest.mark.parametrize("columns, rank", [(2048, 32), (512, 32), (5, 4)])
@torch.no_grad()
def test_it_starts_at_exactly_the_identity(columns, rank):
    torch.manual_seed(0)
    built = backbones.build("mini-bart", feat_dim=columns)
    handle = methods.attach(built, methods.get("grasp-vl", rank=rank))
    x = torch.randn(2, 3, columns)
    assert torch.equal(built.pet["features"].eval()(x), x)
    assert handle.diagnostics() == {"orthogonality error": 0.0}
    assert handle.count().new == 2 * columns * rank


@torch.no_grad()
def test_evaluation_keeps_the_prefix_and_nothing_else(family):
    uncut, _, _ = moved(family, rank=2)
    cut, _, rotation = moved(family, rank=2, prefix=3)
    x = seen()
    rotated = rotation(x)
    torch.testing.assert_close(rotated[..., :3], uncut.pet["features"](x)[..., :3], **CLOSE)
    assert not rotated[..., 3:].any() and rotated[..., :3].all()
    assert not torch.allclose(cut(text(), x).logits, uncut(text(), x).logits, atol=1e-3)
    assert torch.equal(cut(text(), x).logits, cut(text(), x).logits)


def test_training_draws_one_of_the_lengths_by_the_global_seed(family):
    built, _, rotation = moved(family, rank=2, lengths=(2, 3, 5, 64), prefix=1)
    built.train()
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        drawn.append([int(rotation(seen())[0, 0].count_nonzero()) for _ in range(30)])
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {2, 3, FEATS}  # those beyond the features are the features
    assert {built.eval().pet["features"](seen())[0, 0].count_nonzero().item()} == {1}


def test_a_prefix_beyond_the_features_is_refused_when_it_is_planned_and_when_it_is_attached(family):
    with pytest.raises(MethodError, match="prefix=6 is more than the 5 columns of the visual features"):
        attached(family, prefix=6)
    attached(family, prefix=FEATS)
    with pytest.raises(MethodError, match="prefix=513 is more than the 512 columns"):
        resolve("bart-base", "grasp-vl", "video-text", settings={"prefix": 513})
    with pytest.raises(MethodError, match="prefix=97 is more than the 96 columns"):
        resolve("mini-bart", "grasp-vl", "image-text", settings={"prefix": 97})
    assert resolve("bart-base", "grasp-vl", "image-text", settings={"prefix": 513}).overrides == {"prefix": 513}
    assert resolve("bart-base", "grasp-vl", "video-text", settings={"prefix": 513}, data="wider").data == "wider"
