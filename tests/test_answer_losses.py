"""Losses without logits where there is no label, and batches in parts, against the plain path over every method."""

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import methods
from bench import backbones, micro_batches, tasks
from bench.backbones import answer_losses
from bench.config import resolve
from bench.data.batches import Batch, TokenizedSplit
from bench.data.features import FeatureStore
from bench.data.roots import locate
from bench.micro_batches import MicroBatches
from bench.mini.world import FEATURE_COLUMNS
from methods.core import recompute
from methods.core.errors import MethodError

CPU = torch.device("cpu")


@lru_cache
def batches(backbone: str) -> dict[str, Batch]:
    """A batch of 12 examples of uneven lengths for each of two tasks."""
    root = locate("mini", "image-text", {})
    made = {}
    for name in ("vqa", "caption"):
        task = tasks.get(name)
        store = FeatureStore(root, "grid")
        data = TokenizedSplit(task, task.read(root, "train")[:60], backbones.tokenizer(backbone), store, prefix=True)
        made[name] = data.batch(0, 0, 12, seed=1)
    assert len(set(made["vqa"].text_lengths)) > 1
    return made


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def backward(model: Any, handle: Any, batch: Batch, kind: str, size: int | None) -> tuple[float, dict[str, Tensor]]:
    run = resolve("mini-bart", "lora", "image-text")
    model.zero_grad(set_to_none=True)
    parts = MicroBatches(size, trim=not handle.spec.reads_padding)
    torch.manual_seed(5)
    loss = parts.backward(model, batch, kind, run.recipe, CPU, handle.penalties)
    return loss.item(), gradients(model)


def plain_loss(model: Any, batch: Batch, kind: str) -> Tensor:
    """The loss over all logits, written out."""
    logits = model(batch.input_ids, batch.vis_feats, labels=batch.labels, task=batch.task).logits
    each = F.cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), reduction="none").view_as(batch.labels)
    if kind == "tokens":
        return each.sum() / (batch.labels >= 0).sum()
    means = each.sum(dim=1) / (batch.labels >= 0).sum(dim=1)
    return (means * (batch.weights if kind == "weighted" else 1)).mean()


def attached(method: str, backbone: str = "mini-bart") -> tuple[Any, Any]:
    torch.manual_seed(3)
    model = backbones.build(backbone, feat_dim=FEATURE_COLUMNS).train()
    model.set_dropout(0.0)
    handle = methods.attach(model, method, tasks=("vqa", "gqa", "nlvr", "caption"))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():  # away from start values at which much is zero
        for p in handle.trained().values():
            p.add_(0.02 * torch.randn_like(p))
    return model, handle


CASES = [
    *((method, "mini-bart") for method in methods.names()),
    *((method, "mini-t5") for method in methods.names() if not method.startswith("peft:")),
]
#: methods that draw random numbers in every pass, dropout or not
RANDOM = {"adamix", "grasp-vl", "peft:pvera"}


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_losses_and_gradients_are_those_of_all_logits_and_of_the_batch_in_one(method: str, backbone: str) -> None:
    try:
        model, handle = attached(method, backbone)
    except MethodError as reason:
        pytest.skip(str(reason))
    reductions = {"vqa": "weighted", "caption": "tokens"}
    for name in ("vqa",) if method.startswith("peft:") else reductions:
        kind, batch = reductions[name], batches(backbone)[name]
        loss, grads = backward(model, handle, batch, kind, None)
        if method in RANDOM or handle.penalties:  # their draws, and the means of penalties, are a part's own
            assert torch.isfinite(torch.tensor(loss))
            continue
        model.zero_grad(set_to_none=True)
        plain = plain_loss(model, batch, kind)
        plain.backward()
        assert loss == pytest.approx(plain.item(), rel=1e-5)
        compare(grads, gradients(model))
        in_parts, grads_in_parts = backward(model, handle, batch, kind, 5)
        assert in_parts == pytest.approx(loss, rel=1e-5)
        compare(grads_in_parts, grads)


def compare(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Assert that all gradients agree; rounding is relative to a tensor's largest entry, or to the model's where a
    gradient is nothing but rounding (that of a key's bias)."""
    largest = max(g.abs().max() for g in other.values())
    for name in one.keys() | other.keys():
        tolerance = 1e-3 * other[name].abs().max() + 1e-5 * largest
        assert (one[name] - other[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_output_layer_is_gone_through_in_chunks(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 11, bias=bias).requires_grad_(False)
    states, targets, weights = torch.randn(70, 8, requires_grad=True), torch.randint(11, (70,)), torch.rand(70)
    extra = torch.randn(11)
    expected = F.cross_entropy(head(states) + extra, targets, reduction="none")
    (of_all,) = torch.autograd.grad((expected * weights).sum(), states)
    for rows in (1, 9, 70, 1000):
        monkeypatch.setattr(answer_losses, "CHUNK_BYTES", 4 * 11 * rows)
        computed = answer_losses.head_losses(states, head, extra, targets)
        torch.testing.assert_close(computed, expected)
        (in_chunks,) = torch.autograd.grad((computed * weights).sum(), states)
        torch.testing.assert_close(in_chunks, of_all)


def test_a_gate_that_averages_over_padding_keeps_its_padding() -> None:
    """Without it the official gate of VL-PET-small would give another result: the promise is not an empty one."""
    model, handle = attached("vl-pet-small")
    assert handle.spec.reads_padding
    batch, recipe = batches("mini-bart")["vqa"], resolve("mini-bart", "lora", "image-text").recipe
    losses = [
        MicroBatches(size, trim=trim).backward(model, batch, "weighted", recipe, CPU).item()
        for size, trim in ((None, False), (5, False), (5, True))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] != pytest.approx(losses[0], rel=1e-6)


def out_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let every pass over more than ``most`` examples fail as torch's allocator does, half-way."""
    real = micro_batches.batch_loss

    def limited(model: Any, batch: Batch, *arguments: Any, **options: Any) -> Tensor:
        loss = real(model, batch, *arguments, **options)  # draws its dropout first
        if len(batch.ids) > most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return loss

    monkeypatch.setattr(micro_batches, "batch_loss", limited)


def test_out_of_memory_halves_the_parts_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model, handle = attached("vl-pet-large")
    model.set_dropout(0.1)
    batch = batches("mini-bart")["vqa"]
    expected = backward(model, handle, batch, "weighted", 3)
    out_of_memory(monkeypatch, most=3)
    sizes: list[int] = []
    parts = MicroBatches(None, trim=True, on_halved=sizes.append)
    model.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    loss = parts.backward(model, batch, "weighted", resolve("mini-bart", "lora", "image-text").recipe, CPU)
    assert sizes == [6, 3] and parts.size == 3
    assert loss.item() == expected[0]
    compare(gradients(model), expected[1])


def test_out_of_memory_at_one_example_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = attached("lora")
    out_of_memory(monkeypatch, most=0)
    with pytest.raises(RuntimeError, match="not enough memory"):
        MicroBatches().backward(
            model, batches("mini-bart")["vqa"], "weighted", resolve("mini-bart", "lora", "image-text").recipe, CPU
        )


@pytest.mark.parametrize(("method", "backbone"), [case for case in CASES if not case[0].startswith("peft:")])
def test_what_is_computed_again_in_the_backward_pass_changes_no_bit(
    method: str, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, and in a model so small that nothing would be computed again."""
    try:
        model, handle = attached(method, backbone)
    except MethodError as reason:
        pytest.skip(str(reason))
    model.set_dropout(0.1)
    batch = batches(backbone)["vqa"]
    kept = backward(model, handle, batch, "weighted", None)
    monkeypatch.setattr(recompute, "LARGE", 1)
    again = backward(model, handle, batch, "weighted", None)
    assert again[0] == kept[0]
    assert again[1].keys() == kept[1].keys()
    for name, gradient in kept[1].items():
        assert torch.equal(again[1][name], gradient), name


@pytest.mark.parametrize(("method", "reads_a_norm"), [("vl-pet-large", True), ("lora", True), ("vl-adapter", False)])
def test_what_is_computed_again_is_not_kept(method: str, reads_a_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the projector alone, at most X and H of every site are kept, and X only where no norm computes it."""
    model, handle = attached(method)
    recipe, batch = resolve("mini-bart", "lora", "image-text").recipe, batches("mini-bart")["vqa"]

    def kept_bytes() -> int:
        return MicroBatches().saved_bytes(model, batch, "weighted", recipe, CPU, handle.penalties)

    everything = kept_bytes()
    monkeypatch.setattr(recompute, "LARGE", 1)
    inputs = kept_bytes()
    monkeypatch.setattr(recompute.replay, "recall", lambda *arguments: None)
    with_norms = kept_bytes()
    assert inputs <= with_norms < everything
    assert (inputs < with_norms) == reads_a_norm
