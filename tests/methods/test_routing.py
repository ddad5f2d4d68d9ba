"""Weights per task: which ones run, what is shared, and what is said where the task is not known."""

import copy
from typing import Any

import pytest
import torch
from configurations import Configuration, on_every_method
from test_properties import attach, new
from tiny_models import batch, language_model, perturb, text, wrapper
from torch import Tensor
from written_out import ACTS, Inputs, matrix

import methods
from methods import MethodError
from methods.core import context

TASKS = ("vqa", "gqa", "nlvr")


def own(module: Any, task: str, yes: bool) -> Any:
    """A task's module, or the one of all tasks."""
    return module[task] if yes else module


@pytest.mark.parametrize("share", ["all", "none", "down", "up"])
@pytest.mark.parametrize("options", [{}, {"factor": 2}, {"ln_before": True}, {"phm": 2, "rank": 8}])
@torch.no_grad()
def test_what_tasks_share(family, share, options):
    """Sharing one projection, or nothing; every task's output is the formula with its own matrices."""
    lm = language_model(family).double()
    name = "compacter" if "phm" in options else "vl-adapter"
    methods.attach(lm, methods.get(name, share=share, **options), tasks=TASKS)
    perturb(lm.pet, 0.3)
    outputs = []
    for task in TASKS:

        def change(point: str, x: Tensor, h: Tensor, normed: Tensor, task: str = task) -> Tensor:
            if not point.endswith("out"):
                return h
            delta = own(lm.pet[f"dec_1_{point.replace('.', '_')}"].delta, task, share == "none")
            down, up = own(delta.down, task, share == "up"), own(delta.up, task, share == "down")
            u = delta.before(h) if options.get("ln_before") else h
            return h + ACTS["gelu_tanh"](u @ matrix(down) + down.bias) @ matrix(up) + up.bias

        with context.task(task):
            Inputs().compare(lm, "dec", change)
            outputs.append(Inputs().hooked(lm, "dec"))
    same = torch.allclose(outputs[0], outputs[1]) or torch.allclose(outputs[1], outputs[2])
    assert same == (share == "all")


@on_every_method(30)
def test_routed_methods_answer_to_the_task_and_others_do_not(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = attach(model, configuration.chosen)
    with torch.no_grad():
        for parameter in new(handle, model):
            parameter.add_(torch.randn_like(parameter) * 0.3)
        one, other = (model(**batch(), task=task).logits for task in ("vqa", "gqa"))
    assert torch.equal(one, other) != configuration.spec.per_task


def is_routed(configuration: Configuration) -> bool:
    return configuration.spec.per_task


@on_every_method(10, where=is_routed)
def test_no_task_or_an_unknown_one_is_an_error(configuration: Configuration):
    model = wrapper(configuration.family)
    methods.attach(model, configuration.chosen, tasks=("vqa", "gqa"))
    given = batch()
    with pytest.raises(MethodError, match=r"no weights for task 'caption'.*(vqa, gqa|gqa, vqa)"):
        model(**given, task="caption")
    with pytest.raises(MethodError, match="no weights for task 'nlvr'"):
        model.generate(given["input_ids"], given["vis_feats"], task="nlvr")
    with pytest.raises(MethodError, match=r"run the model inside `with methods\.core\.context\.task\(NAME\):`"):
        model(**given, task=None)


@on_every_method(10, where=is_routed)
def test_training_one_task_leaves_weights_of_the_others_alone(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = methods.attach(model, configuration.chosen, tasks=("vqa", "gqa"))
    perturb(model.pet, 0.1)
    model(**batch(), task="gqa").loss.backward()
    trained = handle.trained()
    assert any(".gqa" in name and p.grad is not None for name, p in trained.items())
    assert all(p.grad is None for name, p in trained.items() if ".vqa" in name)


@pytest.mark.parametrize("site", ["enc.end.ln", "dec.ff.ln", "dec.xa.kv", "lm.head"])
@torch.no_grad()
def test_weights_per_task_can_stand_anywhere(family, site):
    model = wrapper(family)
    methods.attach(model, methods.get("vl-adapter-multiple", at=(site,)), tasks=("vqa", "gqa"))
    perturb(model.pet, 0.3)
    one, other = (model(**batch(), task=task).logits for task in ("vqa", "gqa"))
    assert not torch.allclose(one, other, atol=1e-4)


def test_a_bare_language_model_is_told_the_task_around_the_call(family):
    lm = language_model(family)
    methods.attach(lm, "vl-adapter-multiple", tasks=("vqa", "tvqa"))
    perturb(lm.pet, 0.3)
    seen = []
    for task in ("vqa", "tvqa", "vqa"):
        with context.task(task), torch.no_grad():
            seen.append(lm(**text()).logits)
            ids = lm.generate(text()["input_ids"], num_beams=2, max_new_tokens=5)
            assert torch.equal(ids, lm.generate(text()["input_ids"], num_beams=2, max_new_tokens=5, use_cache=False))
    assert torch.equal(seen[0], seen[2]) and not torch.allclose(seen[0], seen[1], atol=1e-4)
    with context.task(None), pytest.raises(MethodError, match="inside `with methods"):
        lm(**text())


def test_checkpointed_layers_remember_their_task_wherever_the_backward_pass_runs(family):
    """Inside another task's context, inside none, and after a pass with the other task."""
    model = wrapper(family)
    methods.attach(model, "vl-adapter-multiple", tasks=("vqa", "gqa"))
    perturb(model.pet, 0.2)
    checkpointed = copy.deepcopy(model)
    getattr(checkpointed.lm, "activation_checkpointing_enable", checkpointed.lm.gradient_checkpointing_enable)()
    gradients = []
    for one, around in ((model, None), (checkpointed, None), (checkpointed, "gqa"), (checkpointed, "vqa")):
        one.train().zero_grad()
        losses = [one(**batch(target=4 + i), task=task).loss for i, task in enumerate(("vqa", "gqa"))]
        with context.task(around):
            sum(losses).backward()
        gradients.append({name: p.grad.clone() for name, p in one.named_parameters() if p.requires_grad})
    for again in gradients[1:]:
        torch.testing.assert_close(again, gradients[0], atol=1e-5, rtol=1e-4)
