"""A method's trained tensors in HF PEFT's file format, from which ``peft.PeftModel.from_pretrained`` reads them."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor, nn

from methods.core.errors import MethodError
from methods.core.sites import Sites
from methods.core.spec import Gate, LoRA, Patch

if TYPE_CHECKING:
    from methods.core.handle import Handle

PREFIX = "base_model.model."  # of the language model in a PeftModel


@dataclass(frozen=True)
class Placed:
    """One of our modules: the name of the Linear that it stands at, and whether it acts on what goes into that."""

    name: str
    module: Any
    ahead: bool


def export(handle: "Handle", lm: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; MethodError for what PEFT cannot represent."""
    pet: Any = handle.model.pet
    files = [module.file for module in pet.values() if hasattr(module, "file")]
    config, tensors = files[0]() if files else _native(handle, lm, pet)
    config = copy.copy(config)
    config.inference_mode = True
    config.base_model_name_or_path = lm.name_or_path or None
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _native(handle: "Handle", lm: Any, pet: Any) -> tuple[Any, dict[str, Tensor]]:
    """Configuration and tensors of one of our own methods: LoRA, with all biases or without, and IA3."""
    new = set(handle.added().values())
    own = {name: p for name, p in lm.named_parameters() if p.requires_grad and p not in new}
    biases = {name for name, _ in lm.named_parameters() if name.endswith(".bias")}
    patch = handle.spec.parts[0] if len(handle.spec.parts) == 1 else None
    if isinstance(patch, Patch):
        if _is_lora(patch) and (not own or own.keys() == biases):
            return _lora(patch.delta, _placed(patch, lm, pet), own)
        if _is_ia3(patch) and not own:
            return _ia3(_placed(patch, lm, pet))
    raise MethodError(
        "PEFT's format can hold the methods peft:*, ia3, and lora with all biases trained or none; "
        "with one set of weights for all tasks and nothing else trained of the language model"
    )


def _placed(patch: Patch, lm: Any, pet: Any) -> list[Placed]:
    names = {module: name for name, module in lm.named_modules()}
    ports = [port for site in patch.at for port in Sites(lm).ports(site, patch.layers)]
    return [Placed(names[port.module], pet[port.key], port.ahead) for port in ports]


def _is_lora(patch: Patch) -> bool:
    delta = patch.delta
    if not isinstance(delta, LoRA) or not patch.merges:
        return False
    return delta == LoRA(r=delta.r, alpha=delta.alpha, dropout=delta.dropout)


def _is_ia3(patch: Patch) -> bool:
    gate = patch.gate
    if gate is None or not patch.merges:
        return False
    return gate == Gate(kind="vector", out="channel", squash="none", init=gate.init)


def _lora(delta: Any, placed: list[Placed], biases: dict[str, nn.Parameter]) -> tuple[Any, dict[str, Tensor]]:
    from peft import LoraConfig

    names = {at.name for at in placed}
    tensors: dict[str, Tensor] = {}
    for at in placed:
        tensors[f"{PREFIX}{at.name}.lora_A.weight"] = at.module.delta.a.weight
        tensors[f"{PREFIX}{at.name}.lora_B.weight"] = at.module.delta.b.weight
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


def _ia3(placed: list[Placed]) -> tuple[Any, dict[str, Tensor]]:
    from peft import IA3Config

    tensors = {
        f"{PREFIX}{p.name}.ia3_l": p.module.gate.z[None] if p.ahead else p.module.gate.z[:, None] for p in placed
    }
    config = IA3Config(
        task_type="SEQ_2_SEQ_LM",
        target_modules=[p.name for p in placed],
        feedforward_modules=[p.name for p in placed if p.ahead],
    )
    return config, tensors
