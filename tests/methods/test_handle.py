"""Training, saving, loading, detaching: what one relies on after attaching."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import BARE, ONE_TASK, attach_moved, batch, language_model, perturb, text, wrapper
from torch import nn

import methods
from methods import MethodError
from methods.spec import Gate, Patch, Spec

# The softmax over keys does not see a constant added to all of them.
NO_GRADIENT = "k_proj.bias"


@pytest.mark.parametrize("name", BARE)
def test_two_steps_change_what_is_trained_and_nothing_else(family, name):
    model = wrapper(family)
    handle = methods.attach(model, name, tasks=ONE_TASK)
    model.train()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch()).loss.backward()
        optimizer.step()
    trained = set(handle.trainable_names())
    for key, parameter in model.named_parameters():
        if key not in trained:
            assert parameter.grad is None
            assert torch.equal(parameter, before[key]), key
        elif NO_GRADIENT not in key:
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", ["full", "lora", "vl-pet-small", "vl-pet-large"])
@torch.no_grad()
def test_a_saved_file_holds_the_trained_tensors_and_loads_back(family, name, tmp_path):
    model = wrapper(family)
    handle = methods.attach(model, name)
    for parameter in handle.trained().values():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    wanted = model(**batch()).logits
    handle.save(tmp_path / "weights.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
    assert set(load_file(tmp_path / "weights.safetensors")) == set(handle.trainable_names())
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert "Spec" in file.metadata()["spec"]

    fresh = wrapper(family)
    other = methods.attach(fresh, name)
    assert not torch.equal(fresh(**batch()).logits, wanted)
    other.load(tmp_path / "weights.safetensors")
    assert torch.equal(fresh(**batch()).logits, wanted)


def test_load_names_what_does_not_fit(tmp_path):
    handle = methods.attach(language_model("bart"), "vl-pet-middleY")
    path = tmp_path / "weights.safetensors"
    handle.save(path)
    tensors = load_file(path)

    key = "pet.enc_0_sa_out.gate.z"
    save_file({name: t for name, t in tensors.items() if name != key}, path)
    with pytest.raises(MethodError, match=rf"1 missing: {key}"):
        handle.load(path)
    save_file(tensors | {"pet.more": torch.zeros(1)}, path)
    with pytest.raises(MethodError, match=r"1 left over: pet\.more"):
        handle.load(path)
    save_file(tensors | {key: torch.zeros(3)}, path)
    with pytest.raises(MethodError, match=rf"{key} has shape \[3\], the model \[32\]"):
        handle.load(path)
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(MethodError, match="not a readable safetensors file"):
        handle.load(path)
    with pytest.raises(MethodError, match="not a readable safetensors file"):
        handle.load(tmp_path / "absent.safetensors")


def test_load_refuses_another_method_with_the_same_tensors(tmp_path):
    methods.attach(language_model("bart"), methods.get("vl-pet-large", scale=0.5)).save(tmp_path / "w.safetensors")
    with pytest.raises(MethodError, match="saved from another method"):
        methods.attach(language_model("bart"), "vl-pet-large").load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", BARE)
@torch.no_grad()
def test_detach_gives_the_model_back(family, name):
    model = wrapper(family)
    before = {key: (value.clone(), value.requires_grad) for key, value in model.named_parameters()}
    logits = model(**batch()).logits
    handle = attach_moved(model, name, 0.3)
    handle.detach()
    assert torch.equal(model(**batch()).logits, logits)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert {key: p.requires_grad for key, p in after.items()} == {key: flag for key, (_, flag) in before.items()}
    assert all(torch.equal(after[key], value) for key, (value, _) in before.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    methods.attach(model, "lora")


def test_only_one_method_at_a_time():
    lm = language_model("bart")
    methods.attach(lm, "lora")
    with pytest.raises(MethodError, match="attached to this model already"):
        methods.attach(lm, "vl-pet-large")


@pytest.mark.parametrize(
    "method, reason",
    [
        (methods.get("vl-pet-large", rank=6), "rank 6 is not divisible by heads 4"),
        (methods.get("vl-pet-large", rank=10, heads=5, arrange="up"), "output width 32 is not divisible by heads 5"),
        (methods.get("projector-only"), "leaves nothing to train"),
        (methods.get("vl-pet-large", arrange="plain"), "has one head"),
        (methods.get("vl-pet-large", gate_rank=0), "a rank goes with a lowrank gate"),
        (methods.get("vl-pet-large", rank=0), "greater than or equal to 1"),
        (methods.get("compacter", phm=3, rank=6), "widths 32 and 32 are not both divisible by phm 3"),
        (methods.get("compacter", phm=4, rank=6), "rank 6 is not divisible by phm 4"),
        (methods.get("bitfit", add_missing=True), "add_missing is for T5"),
    ],
)
def test_what_cannot_be_had_leaves_the_model_alone(method, reason):
    lm = language_model("bart")
    state = {key: p.requires_grad for key, p in lm.named_parameters()}
    with pytest.raises(MethodError, match=reason):
        methods.attach(lm, method)
    assert {key: p.requires_grad for key, p in lm.named_parameters()} == state
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.modules())


def test_other_models_are_refused():
    with pytest.raises(MethodError, match="HF BART or T5"):
        methods.attach(nn.Linear(2, 2), "lora")


def test_a_gate_that_adds_x_and_h_needs_one_width():
    gate = Gate(kind="dense", input="x+hhat", out="token")
    with pytest.raises(MethodError, match=r"at dec\.xa\.v: .* widths?.* 32 and 48"):
        methods.attach(language_model("t5"), Spec(parts=(Patch(at=("dec.xa.v",), gate=gate),)))


def test_attach_is_reproducible_from_the_global_seed(family):
    states = []
    for _ in range(2):
        lm = language_model(family)
        torch.manual_seed(5)
        methods.attach(lm, "vl-pet-large")
        states.append(lm.pet.state_dict())
    torch.testing.assert_close(states[0], states[1], atol=0, rtol=0)


def test_start_values_on_bart():
    lm = language_model("bart", d_model=256)
    methods.attach(lm, methods.get("vl-pet-large", rank=64))
    delta = lm.pet["enc_0_sa_out"].delta
    assert abs(delta.down.weight.std() - 0.02) < 1e-3
    assert delta.down.bias.abs().max() == 0


def test_start_values_on_t5():
    lm = language_model("t5", d_model=256)
    methods.attach(lm, methods.get("vl-pet-large", rank=64))
    module = lm.pet["enc_0_sa_out"]
    bound = 256**-0.5
    assert 0.95 * bound < module.delta.down.weight.abs().max() <= bound
    assert 0 < module.delta.down.bias.abs().max() <= bound
    for zero in (module.delta.up, module.gate.body.up, lm.pet["dec_0_xa_v"].delta.up):
        assert zero.weight.abs().max() == 0 == zero.bias.abs().max()


def test_eval_and_train_mode_reach_the_new_modules():
    lm = language_model("bart").train()
    methods.attach(lm, "lora")
    assert lm.pet.training
    perturb(lm.pet, 0.3)
    assert not torch.equal(lm(**text()).logits, lm(**text()).logits)  # dropout on the LoRA path
    lm.eval()
    assert torch.equal(lm(**text()).logits, lm(**text()).logits)


def test_explain_accounts_for_every_trained_parameter(family):
    handle = methods.attach(wrapper(family), "vl-pet-small")
    text = methods.explain(handle)
    assert "enc.sa.out, enc.ff.out, layers 0-1: delta.down.weight [" in text
    assert "gate.body.weight [1 x 64]" in text
    assert f"visual projector: {handle.count().projector:,}" in text
    assert f"norms: {handle.count().unfrozen:,}" in text
