"""What an attached method put where, in formulas and shapes, so that a reader can hold it against the paper.

Formulas are those of the spec; shapes and numbers are read off the modules.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from methods.handle import Handle

NAMES = "X is what enters a block, H what the site gives, Ĥ = H + ΔH; H' goes on to dropout, residual and norm."


def explain(handle: "Handle") -> str:
    """A text with each part's formula, the trained tensors that stand for it, and the parameter counts."""
    tensors, own = _trained(handle)
    lines = [NAMES] if handle.spec.parts else []
    for part in handle.spec.parts:
        at = ", ".join(getattr(part, "at", ()))
        layers = getattr(part, "layers", "all")
        where = (
            f"at {at}, {'every layer' if layers == 'all' else f'layers {list(layers)}'}" if at else type(part).__name__
        )
        lines += ["", f"{where}:", *(f"    {line}" for line in part.formula.split("\n"))]
    lines += ["", "trained:"] if lines else ["trained:"]
    for (shapes, layers), sites in _alike(tensors).items():
        lines.append(f"    {', '.join(sites)}{layers}: {shapes}")
    lines += [f"    of the model, {kind}: {size:,}" for kind, size in own.items()]
    count = handle.count()
    lines.append(f"\n{count.trainable:,} trainable of {count.total:,} parameters: {count.percent:.2f} %")
    return "\n".join(lines)


def _trained(handle: "Handle") -> tuple[dict[str, list[str]], dict[str, int]]:
    """Trained tensors of the method by module, and how many parameters of each kind are the model's own."""
    modules: dict[str, list[str]] = defaultdict(list)
    own: dict[str, int] = defaultdict(int)
    for name, parameter in handle.trained().items():
        room, *path = name.split(".")
        if room == "pet":
            shape = " x ".join(str(size) for size in parameter.shape)
            module, tensor = _split(path)
            modules[module].append(f"{tensor} [{shape}]")
        else:
            own[_kind(name)] += parameter.numel()
    return modules, own


def _split(path: list[str]) -> tuple[str, str]:
    """Module and tensor of a path under ``pet``; away from sites each module of a list, a layer, is one of its own."""
    at = 0 if "_" in path[0] else next((index for index, part in enumerate(path) if part.isdigit()), 0)
    return f"{'.'.join(path[:at])}_{path[at]}" if at else path[0], ".".join(path[at + 1 :])


def _alike(modules: dict[str, list[str]]) -> dict[tuple[str, str], list[str]]:
    """The places, by tensors and layers, of modules that have the same ones."""
    layers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for key, tensors in modules.items():
        stack, _, rest = key.partition("_")
        layer, _, site = rest.partition("_")
        inside = layer.isdigit()
        found = layers[f"{stack}.{site.replace('_', '.')}".strip(".") if inside else key, ", ".join(tensors)]
        found += [int(layer)] if inside else []
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (place, shapes), numbers in layers.items():
        alike[shapes, f", layers {_ranges(numbers)}" if numbers else ""].append(place)
    return alike


def _ranges(layers: list[int]) -> str:
    """``0-5``, or ``0, 2, 3`` where some are left out."""
    whole = len(layers) > 1 and layers == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if whole else ", ".join(map(str, layers))


def _kind(name: str) -> str:
    if name.startswith("visual_embedding."):
        return "visual projector"
    if "norm" in name:
        return "norms"
    return "biases" if "bias" in name else "weights"
