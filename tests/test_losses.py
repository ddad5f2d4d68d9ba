"""Training losses against sums written out token by token."""

import math

import pytest
import torch

from bench import losses
from bench.backbones.answer_losses import head_losses

LENGTHS = (1, 3, 4)  # label tokens of three examples, padded to 5
WEIGHTS = torch.tensor([0.3, 1.0, 0.6])


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=random)
    labels = torch.randint(7, (3, 5), generator=random)
    for row, length in enumerate(LENGTHS):
        labels[row, length:] = -100
    return logits, labels


def surprises(logits: torch.Tensor, labels: torch.Tensor) -> list[list[float]]:
    """``-log p(label)`` of every label token, example by example, in double precision."""
    return [
        [
            math.log(sum(math.exp(z) for z in scores)) - scores[label]
            for scores, label in zip(row, wanted, strict=True)
            if label >= 0
        ]
        for row, wanted in zip(logits.tolist(), labels.tolist(), strict=True)
    ]


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of every label, ``b t``, by way of an output layer that changes nothing."""
    head = torch.nn.Linear(logits.shape[-1], logits.shape[-1], bias=False).requires_grad_(False)
    torch.nn.init.eye_(head.weight)
    labelled = labels >= 0
    head.to(logits.dtype)
    return torch.zeros(labels.shape).masked_scatter(
        labelled, head_losses(logits[labelled], head, None, labels[labelled])
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def reduced(kind: str, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor = WEIGHTS) -> torch.Tensor:
    return losses.reduce(kind, token_losses(logits, labels), labels, weights, losses.normalizer(kind, labels))


def test_every_label_token_has_its_cross_entropy_and_padding_none(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    computed = token_losses(logits, labels)
    assert computed.shape == labels.shape
    assert not computed[labels == -100].any()
    for row, wanted in zip(computed, surprises(logits, labels), strict=True):
        assert row[: len(wanted)].tolist() == pytest.approx(wanted, rel=1e-5)


def test_the_three_reductions(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    each = surprises(*batch)
    assert reduced("example", *batch).item() == pytest.approx(mean([mean(row) for row in each]), rel=1e-5)
    assert reduced("tokens", *batch).item() == pytest.approx(mean([z for row in each for z in row]), rel=1e-5)
    weighted = [w * mean(row) for w, row in zip(WEIGHTS.tolist(), each, strict=True)]
    # divided by the number of examples, not by the sum of the weights
    assert reduced("weighted", *batch).item() == pytest.approx(mean(weighted), rel=1e-5)


def test_reductions_agree_where_they_should(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    torch.testing.assert_close(reduced("weighted", logits, labels, torch.ones(3)), reduced("example", logits, labels))
    alike = labels.where(labels >= 0, 2)  # all examples equally long
    torch.testing.assert_close(reduced("tokens", logits, alike), reduced("example", logits, alike))


@pytest.mark.parametrize("kind", ["weighted", "example", "tokens"])
def test_more_padding_changes_nothing(batch: tuple[torch.Tensor, torch.Tensor], kind: str) -> None:
    logits, labels = batch
    padded = torch.cat([labels, torch.full((3, 4), -100)], dim=1)
    longer = torch.cat([logits, torch.full((3, 4, 7), 50.0)], dim=1)
    torch.testing.assert_close(reduced(kind, longer, padded), reduced(kind, logits, labels))


@pytest.mark.parametrize("kind", ["weighted", "example", "tokens"])
def test_only_label_tokens_have_a_gradient(batch: tuple[torch.Tensor, torch.Tensor], kind: str) -> None:
    logits, labels = batch
    logits.requires_grad_()
    reduced(kind, logits, labels).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(dim=-1) > 0, labels >= 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_reduced_in_float32(
    batch: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
) -> None:
    logits, labels = batch
    rough = logits.to(dtype)
    computed = token_losses(rough, labels)
    assert computed.dtype == torch.float32
    assert torch.equal(computed, token_losses(rough.float(), labels))


@pytest.mark.parametrize("kind", ["weighted", "example"])
def test_an_example_without_labels_counts_as_zero(batch: tuple[torch.Tensor, torch.Tensor], kind: str) -> None:
    logits, labels = batch
    labels[0] = -100
    rest = reduced(kind, logits[1:], labels[1:], WEIGHTS[1:])
    torch.testing.assert_close(reduced(kind, logits, labels), rest * 2 / 3)


def test_an_unknown_kind_is_refused(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"'mean' is none of example, weighted, tokens"):
        reduced("mean", *batch)
