"""Compiled layers compute what they computed before, dropout included."""

from functools import partialmethod

import pytest
import torch
from tiny_models import batch, wrapper
from torch import nn

import methods
from bench import backbones
from bench.cli import main


@pytest.mark.parametrize("method", ["lora", "vl-adapter", "vl-pet-large"])
def test_compiled_layers_give_the_losses_and_gradients_of_others(method, monkeypatch):
    """Traced, and differentiated ahead of time, but not translated to C++, which takes a minute: benchmarks do that."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    outcomes = []
    for is_compiled in (False, True):
        model = wrapper("bart").train()
        model.set_dropout(0.1)
        handle = methods.attach(model, method)
        if is_compiled:
            backbones.compile_layers(model)
        torch.manual_seed(0)
        given = batch()
        losses = model.token_losses(given["input_ids"], given["vis_feats"], given["labels"], "vqa", None)
        losses.sum().backward()
        outcomes.append([losses.detach(), *(p.grad for p in handle.trained().values())])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for plain, compiled in zip(*outcomes, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_a_sweep_does_not_begin(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    words = ["sweep", "--methods", "lora", "--set", "steps=1", "--compile", "--device", "cpu"]
    assert (
        main([*words, "--executor", "inline", "--results", str(tmp_path / "r"), "--reports", str(tmp_path / "p")]) == 2
    )
    assert "--compile: torch.compile needs a C++ compiler" in capsys.readouterr().err
    assert not list((tmp_path / "r").rglob("run.json"))
