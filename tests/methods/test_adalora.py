"""AdaLoRA prunes as PEFT's documented loop does, and goes on after a checkpoint."""

import copy
from typing import Any

import peft
import pytest
import torch
from peft_targets import QUERY_AND_VALUE
from tiny_models import batch, language_model, wrapper
from torch import Tensor

import methods
from methods import MethodError


def adalora(family: str, **options: Any) -> tuple[Any, methods.Handle]:
    model = wrapper(family)
    torch.manual_seed(3)
    settings = {"rank": 2, "start": 2.0, "every": 1, "dropout": 0.0, "warmup": 0.1, "final": 0.4} | options
    return model, methods.attach(model, methods.get("peft:adalora", **settings))


def train(model: Any, optimizer: Any, steps: range, total: int, clear: bool = True) -> None:
    part = model.pet["peft"]
    for step in steps:
        (model(**batch(target=4 + step % 2)).loss + part.penalty()).backward()
        optimizer.step()
        part.after_update(step, total)
        optimizer.zero_grad()


def adam(model: Any) -> Any:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)


def values(model: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for key, p in model.named_parameters() if "lora_E" in key])


def test_adalora_trains_as_the_library_does(family):
    """The penalty is what PEFT adds to the loss, the pruning that of its documented loop."""
    model, handle = adalora(family)
    theirs = wrapper(family)
    config = peft.AdaLoraConfig(
        task_type="SEQ_2_SEQ_LM", target_modules=QUERY_AND_VALUE[family], total_step=10, tinit=1, tfinal=4, deltaT=1,
        init_r=4, target_r=2, lora_alpha=32 * 32 / 768,
    )  # fmt: skip
    library = peft.get_peft_model(theirs.lm, config)
    ours = {key: p for key, p in handle.trained().items() if "lora_" in key}
    with torch.no_grad():
        for key, parameter in ours.items():
            theirs.get_parameter(key).copy_(parameter)
    for key, parameter in theirs.named_parameters():
        parameter.requires_grad_(key in handle.trained())
    optimizers = adam(model), adam(theirs)
    for step in range(1, 11):
        train(model, optimizers[0], range(step, step + 1), 10)
        given = batch(target=4 + step % 2)
        states, mask = theirs.encode(given["input_ids"], given["vis_feats"], given["boxes"])
        loss = library(encoder_outputs=states, attention_mask=mask, labels=given["labels"]).loss
        loss.backward()
        optimizers[1].step()
        library.base_model.update_and_allocate(step)
        optimizers[1].zero_grad()
        torch.testing.assert_close(values(model), values(theirs), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(
            {key: p for key, p in handle.trained().items()},
            {key: theirs.get_parameter(key) for key in handle.trained()}, atol=2e-6, rtol=1e-5,
        )  # fmt: skip
    kept = int((values(model) != 0).sum())
    assert kept == 2 * len(values(model)) // 4


def test_adalora_goes_on_after_a_checkpoint_bit_for_bit(family):
    """A checkpoint holds trained parameters, buffers of ``pet`` and the optimiser; the stop is before, in and after the
    pruning."""
    total = 8
    for stop in (1, 4, 6):
        straight, _ = adalora(family)
        train(straight, adam(straight), range(1, total + 1), total)

        first, handle = adalora(family)
        optimizer = adam(first)
        train(first, optimizer, range(1, stop + 1), total)
        saved = copy.deepcopy(
            (
                {key: p.detach() for key, p in handle.trained().items()},
                dict(first.pet.named_buffers()),
                optimizer.state_dict(),
            )
        )
        second, handle = adalora(family)
        optimizer = adam(second)
        with torch.no_grad():
            for key, parameter in handle.trained().items():
                parameter.copy_(saved[0][key])
            for key, buffer in second.pet.named_buffers():
                buffer.copy_(saved[1][key])
        optimizer.load_state_dict(saved[2])
        train(second, optimizer, range(stop + 1, total + 1), total)
        for key, parameter in handle.trained().items():
            assert torch.equal(parameter, straight.get_parameter(key)), (stop, key)
        assert (values(second) == 0).any()


def test_adalora_with_too_few_updates_prunes_nothing():
    for total in (1, 2, 3):
        model, _ = adalora("bart", final=0.5)
        train(model, adam(model), range(1, total + 1), total)
        assert (values(model) == 0).any() == (total == 3)


@pytest.mark.parametrize(
    "options, reason", [({"start": 1.0}, "is no higher rank"), ({"warmup": 0.6}, "no time for pruning")]
)
def test_adalora_schedules_that_cannot_be(options, reason):
    with pytest.raises(MethodError, match=reason):
        methods.attach(language_model("bart"), methods.get("peft:adalora", **options))


def test_constants_of_adalora_are_not_trained_in_half_precision():
    handle = methods.attach(language_model("t5").to(torch.bfloat16), "peft:adalora")
    assert {key.split(".")[-2] for key in handle.trained()} == {"lora_A", "lora_B", "lora_E"}
