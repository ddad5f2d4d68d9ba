"""What one relies on after attaching: refusals that leave the model alone, files that fit, seeds, modes."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import language_model, perturb, text
from torch import nn

import methods
from methods import MethodError
from methods.core.spec import Gate, Patch, Spec


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


def test_eval_and_train_mode_reach_the_new_modules():
    lm = language_model("bart").train()
    methods.attach(lm, "lora")
    assert lm.pet.training
    perturb(lm.pet, 0.3)
    assert not torch.equal(lm(**text()).logits, lm(**text()).logits)  # dropout on the LoRA path
    lm.eval()
    assert torch.equal(lm(**text()).logits, lm(**text()).logits)
