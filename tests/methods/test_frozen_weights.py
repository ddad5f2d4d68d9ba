"""Under bf16 the frozen layers are held in bfloat16: the same numbers, with less memory."""

import copy
from typing import Any

import torch
from configurations import Configuration, on_every_method
from hypothesis import assume
from tiny_models import batch, wrapper
from torch import Tensor, nn

import methods
from bench import backbones
from methods import MethodError


def loss_gradients_and_beams(model: Any, handle: methods.Handle) -> list[Tensor]:
    given = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.token_losses(given["input_ids"], given["vis_feats"], given["labels"], "vqa", None)
        beams = model.generate(given["input_ids"], given["vis_feats"], num_beams=3, max_new_tokens=6, task="vqa")
    losses.float().mean().backward()
    return [losses.detach(), beams, *(p.grad for p in handle.trained().values() if p.grad is not None)]


@on_every_method(30)
def test_held_in_bfloat16_every_number_is_that_of_autocast(configuration: Configuration):
    outcomes = []
    for hold in (False, True):
        model = wrapper(configuration.family)
        try:
            handle = methods.attach(model, configuration.chosen, tasks=("vqa", "gqa"))
        except MethodError:
            assume(False)
        if hold:
            backbones.hold_in_bf16(model)
        torch.manual_seed(0)
        outcomes.append(loss_gradients_and_beams(model, handle))
    assert len(outcomes[0]) == len(outcomes[1])
    assert all(torch.equal(*pair) for pair in zip(*outcomes, strict=True))


def test_frozen_layers_take_half_the_memory_and_all_others_what_they_took():
    model = wrapper("bart")
    methods.attach(model, "lora")
    before = copy.deepcopy(model)
    backbones.hold_in_bf16(model)
    halved = 0
    for (name, p), was in zip(model.named_parameters(), before.parameters(), strict=True):
        is_linear = type(model.get_submodule(name.rpartition(".")[0])) is nn.Linear
        is_held = is_linear and not p.requires_grad and name.startswith("lm.model.")
        halved += is_held
        assert p.element_size() == was.element_size() / (1 + is_held), name
    assert halved > 10
