"""A text about an attached method, formulas and shapes, that a reader can compare with the paper.

The formulas are those of the spec; shapes and numbers are read off the modules.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from methods.core.handle import Handle

SYMBOLS = "X is what enters a block, H what the site gives, Ĥ = H + ΔH; H' goes on to dropout, residual and norm."


def explain(handle: "Handle") -> str:
    """Return a text with the formula of each part, the trained tensors behind it, and the parameter counts."""
    tensors, unfrozen = _trained(handle)
    lines = [SYMBOLS] if handle.spec.parts else []
    for part in handle.spec.parts:
        at = ", ".join(getattr(part, "at", ()))
        layers = getattr(part, "layers", "all")
        heading = (
            f"at {at}, {'every layer' if layers == 'all' else f'layers {list(layers)}'}" if at else type(part).__name__
        )
        lines += ["", f"{heading}:", *(f"    {line}" for line in part.formula.split("\n"))]
    lines += ["", "trained:"] if lines else ["trained:"]
    for (shapes, layers), sites in _grouped(tensors).items():
        lines.append(f"    {', '.join(sites)}{layers}: {shapes}")
    lines += [f"    of the model, {kind}: {size:,}" for kind, size in unfrozen.items()]
    lines += [f"{name}: {value:.3g}" for name, value in handle.diagnostics().items()]
    count = handle.count()
    lines.append(f"\n{count.trainable:,} trainable of {count.total:,} parameters: {count.percent:.2f} %")
    return "\n".join(lines)


def _trained(handle: "Handle") -> tuple[dict[tuple[str, str], list[str]], dict[str, int]]:
    """Return the method's trained tensors by place and layer, and how many trained parameters of each kind are the
    model's own."""
    modules: dict[tuple[str, str], list[str]] = defaultdict(list)
    unfrozen: dict[str, int] = defaultdict(int)
    added = handle.added()
    for name, parameter in handle.trained().items():
        top, *path = name.split(".")
        if top == "pet":
            place, layer, tensor = _placed(path)
        elif name in added and top != "visual_embedding":
            place, layer, tensor = _injected(handle, [top, *path])
        else:
            unfrozen[_kind(name)] += parameter.numel()
            continue
        modules[place, layer].append(f"{tensor} [{' x '.join(str(size) for size in parameter.shape)}]")
    return modules, unfrozen


def _placed(path: list[str]) -> tuple[str, str, str]:
    """Return place, layer and tensor of a path below ``pet``: ``enc_3_sa_out`` is at ``enc.sa.out`` in layer 3. In
    modules that stand at no site every item of a module list counts as a layer."""
    stack, _, rest = path[0].partition("_")
    layer, _, site = rest.partition("_")
    if layer.isdigit():
        return f"{stack}.{site.replace('_', '.')}", layer, ".".join(path[1:])
    at = 0 if rest else next((index for index, part in enumerate(path) if part.isdigit()), 0)
    return (".".join(path[:at]), path[at], ".".join(path[at + 1 :])) if at else (path[0], "", ".".join(path[1:]))


def _injected(handle: "Handle", path: list[str]) -> tuple[str, str, str]:
    """Return place, layer and tensor of a parameter in a layer that PEFT put around one of the model's own."""
    inside = (".".join(path[:end]) for end in range(1, len(path)))
    around = next(name for name in inside if hasattr(handle.model.get_submodule(name), "base_layer"))
    layer = next((part for part in around.split(".") if part.isdigit()), "")
    return around.replace(f".{layer}.", ".*.", 1), layer, ".".join(path).removeprefix(f"{around}.")


def _grouped(modules: dict[tuple[str, str], list[str]]) -> dict[tuple[str, str], list[str]]:
    """Return the places that have the same tensors in the same layers, by these."""
    layers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (place, layer), tensors in modules.items():
        layers[place, ", ".join(tensors)] += [int(layer)] if layer else []
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (place, shapes), numbers in layers.items():
        grouped[shapes, f", layers {_ranges(numbers)}" if numbers else ""].append(place)
    return grouped


def _ranges(layers: list[int]) -> str:
    """Return ``0-5``, or ``0, 2, 3`` where layers between are left out."""
    contiguous = len(layers) > 1 and layers == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if contiguous else ", ".join(map(str, layers))


def _kind(name: str) -> str:
    if name.startswith("visual_embedding."):
        return "visual projector"
    if "norm" in name:
        return "norms"
    return "biases" if "bias" in name else "weights"
