"""A checkpoint is gone on from only if it is that of this training: anything else is put aside, and said."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.checkpoint import Checkpoint, TrainingProgress

PRINTS = {"data": {"a.json": "12"}}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)


def made(path: Path, reasons: list[str], run: str = "run-s1") -> tuple[Checkpoint, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    return Checkpoint(path, run, PRINTS, reasons.append), model, optimiser


def written(path: Path, run: str = "run-s1") -> None:
    checkpoint, model, optimiser = made(path, [], run)
    for _ in range(2):
        model.layer(torch.ones(1, 3)).sum().backward()
        optimiser.step()
    checkpoint.save(model, optimiser, TrainingProgress(2, 8, [0.5, 0.25]))


def test_what_was_saved_is_restored(tmp_path: Path) -> None:
    reasons: list[str] = []
    checkpoint, model, optimiser = made(tmp_path / "checkpoint.pt", reasons)
    assert checkpoint.restore(model, optimiser, 4) is None
    written(checkpoint.path)
    assert checkpoint.restore(model, optimiser, 4) == TrainingProgress(2, 8, [0.5, 0.25])
    assert reasons == []
    state = torch.load(checkpoint.path, weights_only=True)
    assert torch.equal(model.layer.weight, state["tensors"]["layer.weight"])


def edit(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {**state, key: value}


def tensors(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        values = {**state["tensors"], **{name.replace("_", "."): value for name, value in changes.items()}}
        return {**state, "tensors": {name: value for name, value in values.items() if value is not None}}

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (edit("run", "run-s2"), "is of the run run-s2"),
        (edit("fingerprints", {"data": {"a.json": "34"}}), "data a.json: 34 then, 12 now"),
        (edit("fingerprints", 5), "no fingerprints"),
        (tensors(layer_bias=None), "exactly the tensors of this run: layer.bias"),
        (tensors(pet_more=torch.zeros(2)), "exactly the tensors of this run: pet.more"),
        (tensors(layer_bias=torch.zeros(3)), "tensor layer.bias is not of shape"),
        (tensors(layer_bias=torch.zeros(2, dtype=torch.int64)), "tensor layer.bias is not of shape"),
        (tensors(layer_bias=[0.0, 0.0]), "tensor layer.bias is not of shape"),
        (tensors(layer_bias=torch.tensor([float("nan"), 0])), "layer.bias has values that are not finite"),
        (tensors(layer_bias=torch.tensor([float("inf"), 0])), "layer.bias has values that are not finite"),
        (edit("step", -3), "-3 updates"),
        (edit("step", 0), "0 updates"),
        (edit("step", 5), "5 updates, which is not between 1 and 4"),
        (edit("step", True), "True updates"),
        (edit("step", "x"), "'x' updates"),
        (edit("step_seconds", torch.zeros(3)), "times of updates"),
        (edit("examples", None), "None examples"),
        (edit("optimizer", {"state": {}, "param_groups": []}), "another optimiser"),
        (edit("optimizer", {}), "no state of the optimiser"),
        (edit("optimizer", {"state": {}, "param_groups": [1]}), "no parameter groups"),
        (edit("rng", {}), "random generators"),
        (edit("rng", {"cpu": torch.zeros(3, dtype=torch.uint8), "cuda": []}), "of another length"),
        (edit("more", 1), "fields are not those .*more"),
        (lambda state: {key: value for key, value in state.items() if key != "rng"}, "fields are not those .*rng"),
        (lambda state: [1, 2], "holds list"),
    ],
)
def test_what_is_not_its_checkpoint_is_rejected_and_changes_nothing(
    change: Callable[[dict[str, Any]], Any], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    written(path)
    torch.save(change(torch.load(path, weights_only=True)), path)
    check_rejected(path, reason)


@pytest.mark.parametrize("kind", ["empty", "cut", "noise", "folder", "loop", "pipe"])
def test_a_file_that_is_none_is_rejected(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    written(path)
    content = path.read_bytes()
    path.unlink()
    if kind in ("folder", "loop", "pipe"):
        {"folder": path.mkdir, "loop": lambda: path.symlink_to(path.name), "pipe": lambda: os.mkfifo(path)}[kind]()
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"\xff" * 999}[kind])
    check_rejected(path, "cannot be read")


def test_the_state_of_the_optimiser_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    written(path)
    whole = torch.load(path, weights_only=True)
    for change, reason in [
        ({0: {"exp_avg": torch.full((2, 3), float("nan"))}}, "not finite"),
        ({0: {"exp_avg": torch.zeros(5)}}, "another shape"),
        ({9: {"exp_avg": torch.zeros(2, 3)}}, "not there"),
        ({0: {"exp_avg": "x"}}, "is str"),
        ({}, "no state"),
    ]:
        torch.save({**whole, "optimizer": {**whole["optimizer"], "state": change}}, path)
        check_rejected(path, reason)


def check_rejected(path: Path, reason: str) -> None:
    import re

    reasons: list[str] = []
    checkpoint, model, optimiser = made(path, reasons)
    before = [p.clone() for p in model.parameters()]
    assert checkpoint.restore(model, optimiser, 4) is None
    assert len(reasons) == 1 and re.search(reason, reasons[0]), reasons
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not optimiser.state
