"""Our own LoRA and IA3 are PEFT's, and go out in its format."""

from typing import Any

import peft
import pytest
import torch
from peft_targets import QUERY_AND_VALUE, TARGETS
from tiny_models import attach_moved, language_model, text

import methods
from methods import MethodError


def native_and_library(family: str, name: str, config: Any) -> tuple[Any, Any, dict[str, str]]:
    """A model with our own method, one with PEFT's by hand with the same weights, and the names of those weights."""
    ours, theirs = language_model(family), language_model(family)
    handle = attach_moved(ours, name, 0.2)
    library = peft.get_peft_model(theirs, config).eval()
    names = {}
    own = dict(library.get_base_model().named_modules())
    for key in handle.added():
        _, port, tensor = key.split(".", 2)
        names[key] = named(family, port, tensor, own)
    with torch.no_grad():
        for key, target in names.items():
            parameter = theirs.get_parameter(target)
            parameter.copy_(handle.trained()[key].reshape(parameter.shape))
    return ours, theirs, names


def named(family: str, port: str, tensor: str, modules: dict[str, Any]) -> str:
    """PEFT's name of one of our tensors: ``enc_0_sa_q`` and ``delta.a.weight``, written out."""
    stack, layer, block, point = port.split("_")
    if family == "bart":
        part = {"sa": "self_attn.", "xa": "encoder_attn.", "ff": ""}[block]
        module = f"model.{stack}oder.layers.{layer}.{part}" + ("fc2" if point == "mid" else f"{point}_proj")
    else:
        index = {"sa": 0, "xa": 1, "ff": 1 if stack == "enc" else 2}[block]
        part = {"sa": "SelfAttention", "xa": "EncDecAttention", "ff": "DenseReluDense"}[block]
        module = f"{stack}oder.block.{layer}.layer.{index}.{part}." + ("wo" if point == "mid" else point)
    assert module in modules
    return (
        module
        + {
            "delta.a.weight": ".lora_A.default.weight",
            "delta.b.weight": ".lora_B.default.weight",
            "gate.z": ".ia3_l.default",
        }[tensor]
    )


CONFIGS = {
    "lora": lambda family: peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", target_modules=QUERY_AND_VALUE[family], r=6, lora_alpha=9, lora_dropout=0.0
    ),
    "ia3": lambda family: peft.IA3Config(
        task_type="SEQ_2_SEQ_LM",
        target_modules=TARGETS["peft:ia3"][family],
        feedforward_modules=r".*(fc2|wo)",
    ),
}
NATIVE = {"lora": methods.get("lora", rank=6, alpha=9.0, dropout=0.0, biases="none"), "ia3": methods.get("ia3")}


@pytest.mark.parametrize("name", NATIVE)
def test_native_methods_are_the_librarys(family, name):
    ours, theirs, names = native_and_library(family, NATIVE[name], CONFIGS[name](family))
    one, other = ours(**text()), theirs(**text())
    torch.testing.assert_close(one.logits, other.logits, atol=2e-6, rtol=1e-5)
    one.loss.backward()
    other.loss.backward()
    assert len(names) == sum(p.requires_grad for p in theirs.parameters())
    for key, target in names.items():
        mine, library = ours.get_parameter(key).grad, theirs.get_parameter(target).grad
        torch.testing.assert_close(mine, library.reshape(mine.shape), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("method", [methods.get("lora"), NATIVE["lora"], NATIVE["ia3"]], ids=["lora", "bare", "ia3"])
def test_native_methods_are_exported(family, method, tmp_path):
    """On BART LoRA trains all biases as well; PEFT has a place for them."""
    lm = language_model(family)
    handle = methods.attach(lm, method)
    with torch.no_grad():
        for parameter in handle.trained().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    handle.export_peft(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    opened = peft.PeftModel.from_pretrained(language_model(family), tmp_path).eval()
    torch.testing.assert_close(opened(**text()).logits, lm(**text()).logits, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "method", ["vl-pet-large", "bitfit", methods.get("lora", norms="enc"), "lora+vl-pet-large", "compacter"]
)
def test_other_methods_cannot_be_exported(method, tmp_path):
    handle = methods.attach(language_model("bart"), method)
    with pytest.raises(MethodError, match="PEFT's format can hold"):
        handle.export_peft(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
