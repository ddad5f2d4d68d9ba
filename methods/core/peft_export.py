"""Writing a method's trained tensors in HF PEFT's file format, which ``peft.PeftModel.from_pretrained`` reads."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from methods.core.errors import MethodError
from methods.core.sites import Sites
from methods.core.spec import Gate, LoRA, Patch, Spec

PREFIX = "base_model.model."  # of the language model in a PeftModel


@dataclass(frozen=True)
class PatchedLinear:
    """One of our modules, the name of the Linear that it stands at, and whether it acts on the Linear's input."""

    name: str
    module: Any
    ahead: bool


def write(config: Any, tensors: dict[str, Tensor], lm: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` to ``folder``.

    Args:
        config: a ``peft.PeftConfig``.
        tensors: the trained tensors under PEFT's names.
        lm: the language model, whose name or path the configuration points to.
        folder: made where it does not exist.
    """
    config = copy.copy(config)
    config.inference_mode = True
    config.base_model_name_or_path = lm.name_or_path or None
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def export_own(spec: Spec, lm: Any, pet: Any, new: set[nn.Parameter]) -> tuple[Any, dict[str, Tensor]]:
    """Return configuration and tensors of one of the suite's own methods: LoRA (all biases trained, or none) and IA3.

    Args:
        spec: the attached method.
        lm: the language model with it.
        pet: the method's modules by name.
        new: the trained parameters that the method added.

    Raises:
        MethodError: PEFT's format cannot hold the method.
    """
    unfrozen = {name: p for name, p in lm.named_parameters() if p.requires_grad and p not in new}
    biases = {name for name, _ in lm.named_parameters() if name.endswith(".bias")}
    patch = spec.parts[0] if len(spec.parts) == 1 else None
    if isinstance(patch, Patch):
        if _is_lora(patch) and (not unfrozen or unfrozen.keys() == biases):
            return _lora(patch.delta, _patched_linears(patch, lm, pet), unfrozen)
        if _is_ia3(patch) and not unfrozen:
            return _ia3(_patched_linears(patch, lm, pet))
    raise MethodError(
        "PEFT's format can hold the methods peft:*, ia3, and lora with all biases trained or none; "
        "with one set of weights for all tasks and nothing else trained of the language model"
    )


def _patched_linears(patch: Patch, lm: Any, pet: Any) -> list[PatchedLinear]:
    names = {module: name for name, module in lm.named_modules()}
    ports = [port for site in patch.at for port in Sites(lm).ports(site, patch.layers)]
    return [PatchedLinear(names[port.module], pet[port.key], port.ahead) for port in ports]


def _is_lora(patch: Patch) -> bool:
    delta = patch.delta
    if not isinstance(delta, LoRA) or not patch.mergeable:
        return False
    return delta == LoRA(r=delta.r, alpha=delta.alpha, dropout=delta.dropout)


def _is_ia3(patch: Patch) -> bool:
    gate = patch.gate
    if gate is None or not patch.mergeable:
        return False
    return gate == Gate(kind="vector", out="channel", squash="none", init=gate.init)


def _lora(delta: Any, linears: list[PatchedLinear], biases: dict[str, nn.Parameter]) -> tuple[Any, dict[str, Tensor]]:
    from peft import LoraConfig

    names = {linear.name for linear in linears}
    tensors: dict[str, Tensor] = {}
    for linear in linears:
        tensors[f"{PREFIX}{linear.name}.lora_A.weight"] = linear.module.delta.a.weight
        tensors[f"{PREFIX}{linear.name}.lora_B.weight"] = linear.module.delta.b.weight
    for name, parameter in biases.items():
        module = name.removesuffix(".bias")
        tensors[f"{PREFIX}{module}.base_layer.bias" if module in names else f"{PREFIX}{name}"] = parameter
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        target_modules=sorted(names),
        r=delta.r,
        lora_alpha=delta.alpha,
        lora_dropout=delta.dropout,
        bias="all" if biases else "none",
    )
    return config, tensors


def _ia3(linears: list[PatchedLinear]) -> tuple[Any, dict[str, Tensor]]:
    from peft import IA3Config

    tensors = {
        f"{PREFIX}{p.name}.ia3_l": p.module.gate.z[None] if p.ahead else p.module.gate.z[:, None] for p in linears
    }
    config = IA3Config(
        task_type="SEQ_2_SEQ_LM",
        target_modules=[p.name for p in linears],
        feedforward_modules=[p.name for p in linears if p.ahead],
    )
    return config, tensors
