"""What holds for every method whatever its options: off, copied, decoded, saved, detached, merged.

Through the vision-language wrapper, on tiny backbones none of whose parameters is neutral.
"""

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from configurations import Configuration, configurations, on_every_method, random
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import batch, perturb, wrapper
from torch import Tensor

import methods
from methods import MethodError, Spec
from methods.core.spec import SITES, Bias, Bottleneck, Gate, LoRA, Patch

OFF = Gate(kind="vector", out="channel", squash="one_plus", init="zeros")


def logits(model: Any, task: str = "vqa") -> Tensor:
    with torch.no_grad():
        return model(**batch(), task=task).logits


def beams(model: Any, **options: Any) -> Tensor:
    given = batch()
    return model.generate(given["input_ids"], given["vis_feats"], num_beams=3, max_new_tokens=6, **options)


def attach(model: Any, method: Any) -> methods.Handle:
    """Attach, where a library behind a method may still refuse an option."""
    try:
        return methods.attach(model, method, tasks=("vqa", "gqa"))
    except MethodError:
        assume(False)
        raise


def new(handle: methods.Handle, model: Any) -> list[torch.nn.Parameter]:
    """The parameters that were not there before."""
    own = {id(p) for p in (*model.lm.parameters(), *model.visual_embedding.parameters())}
    return [p for name, p in handle.trained().items() if id(p) not in own or name.startswith("pet.")]


def switched_off(spec: Spec) -> Spec:
    """The same patches where they are, none of which does anything at its start."""
    parts = []
    for part in spec.parts:
        if isinstance(part, Patch):
            delta = part.delta
            if isinstance(delta, Bottleneck):
                delta = delta.model_copy(update={"init_up": "zeros"})
            elif not isinstance(delta, LoRA | Bias):
                delta = None
            gate = OFF if part.gate is not None or delta is None else None
            parts.append(Patch(at=part.at, layers=part.layers, delta=delta, gate=gate))
    return Spec(parts=tuple(parts))


def check_off(family: str, off: Spec) -> None:
    model = wrapper(family)
    plain, ids = logits(model), beams(model)
    methods.attach(model, off)
    assert torch.equal(logits(model), plain)
    assert torch.equal(beams(model), ids)
    perturb(model.pet, 0.5)
    assert not torch.allclose(logits(model), plain, atol=1e-4)


@random(40)
@given(configurations())
def test_switched_off_it_leaves_every_bit_alone(configuration: Configuration):
    off = switched_off(configuration.spec)
    assume(off.parts)
    check_off(configuration.family, off)


WITH_X = tuple(site for site in SITES if not site.endswith((".mid", ".ln", ".kv")))


@pytest.mark.parametrize(
    "parts",
    [
        (Patch(at=SITES, delta=Bottleneck(r=4, init_up="zeros")),),
        (Patch(at=WITH_X, delta=Bottleneck(r=4, input="x", init_up="zeros")),),
        (Patch(at=WITH_X, delta=LoRA(r=4, alpha=8, dropout=0.1)),),
        (Patch(at=SITES, gate=OFF),),
        (Patch(at=SITES, delta=Bias()),),
        (Patch(at=SITES, delta=Bottleneck(r=4, init_up="zeros")),) * 2,
    ],
    ids=["sequential", "parallel", "lora", "gate", "bias", "two on a site"],
)
def test_switched_off_at_every_site_there_is(family, parts):
    check_off(family, Spec(parts=parts))


@on_every_method(10)
def test_a_copied_model_is_its_own(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = attach(model, configuration.chosen)
    before, twin = logits(model), copy.deepcopy(model)
    assert torch.equal(logits(twin), before)
    moved = {name for name, p in model.named_parameters() if p in set(new(handle, model) or handle.trained().values())}
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name in moved:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert torch.equal(logits(model), before)
    assert not torch.allclose(logits(twin), before, atol=1e-4)


@on_every_method(50)
def test_detaching_gives_the_model_back_bit_for_bit(configuration: Configuration):
    def state() -> dict[str, Any]:
        flags = {name: p.requires_grad for name, p in model.named_parameters()}
        modules = {name: (type(m), m.training, [*m._forward_hooks, *m._forward_pre_hooks]) for name, m in parts()}
        return {"flags": flags, "modules": modules}

    def parts() -> Any:
        return model.named_modules()

    model = wrapper(configuration.family)
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 > 0)
    model.lm.get_decoder().train()
    before, tensors, plain = state(), {k: v.clone() for k, v in model.state_dict().items()}, logits(model)
    handle = attach(model, configuration.chosen)
    with torch.no_grad():
        for parameter in new(handle, model):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.detach()
    assert state() == before
    assert torch.equal(logits(model), plain)
    after = model.state_dict()
    assert after.keys() == tensors.keys() and all(torch.equal(after[key], tensor) for key, tensor in tensors.items())


@on_every_method(30, where=lambda configuration: configuration.spec.exact_with_cache)
def test_cached_decoding_is_uncached_decoding(configuration: Configuration):
    model, given = wrapper(configuration.family), batch()
    handle = attach(model, configuration.chosen)
    with torch.no_grad():
        for parameter in new(handle, model):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    options = {"max_new_tokens": 6, "output_scores": True, "return_dict_in_generate": True}
    greedy = [
        model.generate(given["input_ids"], given["vis_feats"], task="gqa", use_cache=cache, **options)
        for cache in (True, False)
    ]
    assert torch.equal(greedy[0].sequences, greedy[1].sequences)
    torch.testing.assert_close(*(torch.stack(g.scores) for g in greedy), atol=1e-4, rtol=1e-4)
    assert torch.equal(beams(model, use_cache=True), beams(model, use_cache=False))


@on_every_method(40)
def test_a_saved_file_holds_what_is_trained_and_makes_another_model_the_same(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = attach(model, configuration.chosen)
    with torch.no_grad():
        for parameter in handle.trained().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        handle.save(path)
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        saved = load_file(path)
        fresh = wrapper(configuration.family)
        torch.manual_seed(7)
        other = methods.attach(fresh, configuration.chosen, tasks=("vqa", "gqa"))
        other.load(path)
    assert saved.keys() == handle.trained().keys() == other.trained().keys()
    for task in ("vqa", "gqa"):
        assert torch.equal(logits(fresh, task), logits(model, task))
    assert torch.equal(beams(fresh, task="gqa"), beams(model, task="gqa"))


@random(40)
@given(configurations().flatmap(lambda one: st.tuples(st.just(one), configurations((one.name,)))))
def test_a_file_of_another_spec_is_refused(pair: tuple[Configuration, Configuration]):
    """Whether or not its tensors have the same shapes."""
    one, other = pair
    other = dataclasses.replace(other, family=one.family)
    assume(other.fits and one.spec.data() != other.spec.data())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        attach(wrapper(one.family), one.chosen).save(path)
        model = wrapper(other.family)
        handle = attach(model, other.chosen)
        before = {name: p.detach().clone() for name, p in handle.trained().items()}
        with pytest.raises(MethodError, match=r"does not fit the attached|from another method"):
            handle.load(path)
    assert all(torch.equal(p, before[name]) for name, p in handle.trained().items())


@on_every_method(20, where=lambda configuration: configuration.spec.mergeable)
def test_merging_leaves_a_plain_model_with_the_same_outputs(configuration: Configuration):
    model = wrapper(configuration.family)
    handle = attach(model, configuration.chosen)
    with torch.no_grad():
        for parameter in new(handle, model):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    wanted = logits(model)
    handle.merge()
    assert not hasattr(model, "pet")
    torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=1e-4)
