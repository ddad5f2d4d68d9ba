"""What a method's modules may ask of training and of the encoder's input, and how it is found again."""

import copy

import pytest
import torch
from tiny_models import batch, language_model, wrapper
from torch import nn

import methods
from methods import MethodError, Spec
from methods.core import contracts, replay
from methods.core.preparation import prepare
from methods.core.spec import Part


class Recorder(nn.Module):
    """Takes part in everything."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def penalty(self):
        return 2 * self.weight

    def diagnostics(self):
        return {"weight": self.weight.item()}

    def after_update(self, step, total_steps):
        raise NotImplementedError

    def forward(self, join, encoder, input_ids, attention_mask, visual_tokens):
        return join(encoder, input_ids, attention_mask, self.weight * visual_tokens)


class Asks(Part):
    """Registers recorders for some of the contracts."""

    contracts: tuple[str, ...]
    times: int = 1

    def place(self, placement):
        for _ in range(self.times):
            module = Recorder()
            if "input" in self.contracts:
                placement.set_encoder_input(module)
            else:
                placement.add_module("recorder", module)
            if "penalty" in self.contracts:
                placement.add_penalty(module)
            if "updates" in self.contracts:
                placement.listen_to_updates(module)


def asking(*names: str, times: int = 1) -> Spec:
    return Spec(parts=(Asks(contracts=names, times=times),))


def test_a_handle_holds_what_was_registered_and_nothing_else():
    model = language_model("bart")
    handle = methods.attach(model, Spec(parts=(*asking("penalty").parts, *asking("updates").parts)))
    first, second = model.pet["recorder"], model.pet["recorder_2"]
    assert handle.penalties == (first,) and handle.update_listeners == (second,)
    handle.detach()
    assert handle.penalties == handle.update_listeners == ()


@torch.no_grad()
def test_the_encoder_input_is_found_in_the_model_and_in_its_copies(family):
    model = wrapper(family)
    assert contracts.encoder_input(model) is None
    plain = model(**batch()).logits
    methods.attach(model, asking("input"))
    assert contracts.encoder_input(model) is model.pet["input"]
    torch.testing.assert_close(model(**batch()).logits, plain)
    twin = copy.deepcopy(model)
    contracts.encoder_input(twin).weight.fill_(0.0)
    assert not torch.allclose(twin(**batch()).logits, plain, atol=1e-4)
    torch.testing.assert_close(model(**batch()).logits, plain)


def test_one_part_makes_the_encoder_input():
    model = wrapper("bart")
    with pytest.raises(MethodError, match="a method can have one"):
        methods.attach(model, asking("input", times=2))
    assert not hasattr(model, "pet")


def test_only_methods_that_say_so_take_part_in_training():
    handles = {name: methods.attach(wrapper("bart"), name) for name in methods.names()}
    counts = {name: (len(h.penalties), len(h.update_listeners)) for name, h in handles.items()}
    taking_part = {name: count for name, count in counts.items() if count != (0, 0)}
    assert taking_part == {"peft:adalora": (1, 1), "adamix": (1, 0)}
    assert len(methods.attach(wrapper("bart"), methods.get("clipfit", distill=1.0)).penalties) == 1


class Counts(Part):
    """Trains as many numbers as it has seen tokens; it has no use for the model."""

    examples: int

    @property
    def training_examples(self):
        return self.examples

    def prepare(self, model, examples):
        return {"tokens": torch.tensor([len(example["input_ids"]) for example in examples])}

    def place(self, placement):
        module = Recorder()
        if placement.prepared is not None:
            with torch.no_grad():
                module.weight.fill_(float(placement.prepared["tokens"].sum()))
        placement.add_module("counts", module)
        placement.add_diagnostics(module)


def test_a_part_gets_what_it_has_computed_from_data_and_none_where_there_are_none():
    spec = Spec(parts=(Counts(examples=2), *asking("penalty").parts, Counts(examples=1)))
    prepared = prepare(None, spec, lambda count: ({"input_ids": range(7)} for _ in range(count)))
    assert {name: tensor.tolist() for name, tensor in prepared.items()} == {"0.tokens": [7, 7], "2.tokens": [7]}
    for given, values in ((prepared, [14.0, 7.0]), (None, [1.0, 1.0])):
        model = language_model("bart")
        handle = methods.attach(model, spec, prepared=given)
        assert [model.pet[key].weight.item() for key in ("counts", "counts_2")] == values
        assert handle.diagnostics() == {"weight": values[-1]}


def test_facts_stay_with_a_tensor_until_they_are_replaced():
    states, other = torch.zeros(2), torch.zeros(2)
    replay.remember(states, "a", 1)
    replay.remember(states, "b", 2)
    replay.remember(states, "a", 3)
    assert [replay.recall(states, key) for key in ("a", "b", "c")] == [3, 2, None]
    assert replay.recall(other, "a", "default") == "default"
    assert replay.recall(states.clone(), "a") is None  # a copy is another tensor
