"""Training any method: what changes, what gets a gradient, checkpointing, half precision."""

import re
from typing import Any

import torch
from configurations import Configuration, on_every_method
from test_properties import attach, new
from tiny_models import batch, wrapper

import methods
from methods import MethodError
from methods.core.spec import Patch

TASKS = ("vqa", "gqa")
# A constant added to all keys alike is not seen by the softmax over them.
UNSEEN = re.compile(r"k_proj\.bias$|_[sx]a_k\..*(bias|vector|z)$")


def loss(model: Any, step: int = 0) -> torch.Tensor:
    """Over all tasks, each with other lengths and padding."""
    total = torch.zeros(())
    for i, task in enumerate(TASKS):
        given = batch(length=6 + i, target=4 + step + i)
        given["input_ids"][i, 3:] = model.lm.config.pad_token_id
        total = total + model(**given, task=task).loss
    return total


def unused(handle: methods.Handle, family: str) -> set[str]:
    """Names of the trained parameters that stand in parts that are off the path of the data."""
    parts = [part for part in handle.spec.parts if not (isinstance(part, Patch) and part.unused)]
    if len(parts) == len(handle.spec.parts):
        return set()
    used = attach(wrapper(family), handle.spec.model_copy(update={"parts": tuple(parts)}))
    return handle.trained().keys() - used.trained().keys()


def lively(configuration: Configuration) -> bool:
    """Without ReLUs so few that all of them may be dead, or a norm over one number, which is constant."""
    options = configuration.options
    dead = options.get("act") == "relu" and min(options.get("rank", 9), options.get("decoder_rank", 9)) < 4
    return not dead and options.get("hidden", 9) > 2


@on_every_method(
    60,
    ("vl-pet-large", {"decoder": "self-value", "quirk": "unused-self-value"}),
    ("vl-pet-large", {"decoder_heads": 2, "quirk": "unused-value-heads"}),
    where=lively,
)
def test_two_steps_change_what_is_trained_and_nothing_else(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = attach(model, configuration.chosen)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(handle.trained().values(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()
    idle = unused(handle, configuration.family)
    for name, parameter in model.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        assert moved == (parameter.requires_grad and name not in idle) or UNSEEN.search(name), name
    trained = {p.data_ptr() for p in handle.trained().values()}  # tied ones have several names
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() in trained or torch.equal(tensor, before[name]), name


@on_every_method(25, ("vl-pet-small", {"gate": "small-masked"}), ("prompt-multiple", {"length": 3}))
def test_checkpointing_gives_the_same_gradients(configuration: Configuration):
    """Over two forward passes of different tasks and lengths, whose layers are run again in one backward pass."""
    gradients = []
    for checkpointing in (False, True):
        model = wrapper(configuration.family)
        torch.manual_seed(0)
        handle = attach(model, configuration.chosen)
        with torch.no_grad():
            for parameter in new(handle, model):
                parameter.add_(torch.randn_like(parameter) * 0.2)
        if checkpointing:
            getattr(model.lm, "activation_checkpointing_enable", model.lm.gradient_checkpointing_enable)()
        model.train()
        torch.manual_seed(1)  # of dropout
        try:
            loss(model).backward()  # in the context of one of the tasks, which is not to matter
        except MethodError as refusal:
            assert "checkpointing" in str(refusal)
            return
        gradients.append({name: p.grad for name, p in handle.trained().items() if p.grad is not None})
    exact, again = gradients
    assert exact.keys() == again.keys() != set()
    for name, gradient in exact.items():  # by norm: single entries of PEFT's larger matrices differ by rounding
        assert (again[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-5, name


def close(rough: torch.Tensor, exact: torch.Tensor) -> bool:
    """As near as bfloat16 comes."""
    return bool((rough.float() - exact).abs().max() < 0.1 * exact.abs().max())


@on_every_method(15)
def test_bfloat16_with_a_float32_output_projection(configuration: Configuration):
    """T5 keeps ``wo`` in float32 when the rest is in half precision."""
    exact = wrapper(configuration.family)
    attach(exact, configuration.chosen)
    rough = wrapper(configuration.family).to(torch.bfloat16)
    if configuration.family == "t5":
        for block in (*rough.lm.encoder.block, *rough.lm.decoder.block):
            block.layer[-1].DenseReluDense.wo.float()
    handle = attach(rough, configuration.chosen)
    assert {p.dtype for p in rough.pet.parameters()} <= {torch.bfloat16}
    with torch.no_grad():
        for parameter, source in zip(rough.parameters(), exact.parameters(), strict=True):
            parameter.copy_(source)
    given = {key: value.to(torch.bfloat16) if value.is_floating_point() else value for key, value in batch().items()}
    output = rough(**given)
    assert close(output.logits, exact(**batch()).logits)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in handle.trained().values() if p.grad is not None)


@on_every_method(5)
def test_autocast(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = attach(model, configuration.chosen)
    exact = model(**batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(**batch())
    assert close(rough.logits, exact.logits)
    rough.loss.backward()
    assert {p.grad.dtype for p in handle.trained().values() if p.grad is not None} == {torch.float32}
