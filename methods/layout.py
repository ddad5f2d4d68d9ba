"""What an attached method put where, in words and shapes; read off the modules, so that it cannot be wrong."""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from methods.handle import Handle


def explain(handle: "Handle") -> str:
    """A text with the method's modules, alike ones of several layers in one line, and its parameter counts."""
    pet: dict[tuple[str, str], list[str]] = defaultdict(list)
    own: dict[str, int] = defaultdict(int)
    for name, parameter in handle.trained().items():
        path = name.split(".")
        if path[0] == "pet":
            pet[path[1], ".".join(path[2:])] = [str(size) for size in parameter.shape]
        else:
            own[_kind(name)] += parameter.numel()

    modules: dict[str, list[str]] = defaultdict(list)
    for (key, tensor), shape in pet.items():
        modules[key].append(f"{tensor} [{' x '.join(shape)}]")
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, tensors in modules.items():
        site, layer = _site(key)
        alike[site, ", ".join(tensors)].append(layer)

    lines = [f"{site}, layers {', '.join(layers)}: {tensors}" for (site, tensors), layers in alike.items()]
    lines += [f"trained of the model, {kind}: {size:,}" for kind, size in own.items()]
    count = handle.count()
    lines.append(f"trainable {count.trainable:,} of {count.total:,} ({count.percent:.2f} %)")
    return "\n".join(lines)


def _site(key: str) -> tuple[str, str]:
    """Site and layer of a module's key: ``enc_3_sa_out`` -> ``enc.sa.out``, ``3``."""
    stack, layer, *rest = key.split("_")
    return ".".join([stack, *rest]), layer


def _kind(name: str) -> str:
    if name.startswith("visual_embedding."):
        return "visual projector"
    if "norm" in name:
        return "norms"
    return "biases" if "bias" in name else "weights"
