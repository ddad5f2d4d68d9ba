"""From the names that official checkpoints and scripts give to methods to the names of this suite."""

import re

import methods
from bench.errors import UsageError, did_you_mean
from methods import ResolvedMethod, vl_pet

VL_PET_SIZES = tuple(f"vl-pet-{size}" for size in vl_pet.SIZES)
#: the methods whose official state dicts can be read
SUPPORTED = (
    *("full", "projector-only", "bitfit", "prompt", "prompt-multiple"),
    *("compacter", "compacter-multiple", "hyperformer", "lora", "lora-multiple", "lst"),
    *("vl-adapter", "vl-adapter-multiple", "vl-adapter-half-down", "vl-adapter-half-up"),
    *VL_PET_SIZES,
    *(f"{base}+{size}" for base in ("vl-adapter", "compacter") for size in VL_PET_SIZES),
)
#: value of the option ``share`` -> ending of the names of the methods that have it
SHARING_SUFFIXES = {"all": "", "none": "-multiple", "down": "-half-down", "up": "-half-up"}


def resolve_official_name(method: "str | ResolvedMethod") -> "ResolvedMethod":
    """Return the method that an official name stands for; a method itself is returned if it is supported.

    Official names are written in many ways: case, hyphens and underscores are ignored, and so are a backbone in front
    (``bart_lora``) and a source behind the name (``lora_lst``). What the official code calls "adapter" is VL-Adapter.

    Raises:
        UsageError: there is no such method, or its official state dicts cannot be read.
    """
    if isinstance(method, ResolvedMethod):
        if method.name in SUPPORTED:
            return method
        raise _unsupported(method.name)
    letters = _letters(method)
    without_backbone = re.sub(r"^(vl)?(bart|t5)(base|large|small)?", "", letters)
    without_source = re.sub(r"^single|(single|lst|vladapter|official)$", "", without_backbone)
    names = _names_by_letters()
    for spelling in (letters, without_backbone, without_source):
        if spelling in names:
            return methods.get(names[spelling])
    raise _unsupported(method)


def name_with_sharing(method: "ResolvedMethod", share: str) -> str:
    """Return the name of the variant of a method that shares over tasks as ``share`` says.

    Where no variant of that kind is supported, it is the name of the method itself.
    """
    base = re.sub("|".join(f"{suffix}$" for suffix in SHARING_SUFFIXES.values() if suffix), "", method.name)
    variant = base + SHARING_SUFFIXES[share]
    return variant if variant in SUPPORTED else method.name


def _names_by_letters() -> dict[str, str]:
    """Return the supported methods, by the letters and digits of all names that they have."""
    names = {f"bitfit{variant}": "bitfit" for variant in ("vlpet", "added", "withbiasesadded")}
    # The official trainer sets the same switches for both; which one it was is read off the tensors.
    names["compacteroriginal"] = "compacter"
    for name in SUPPORTED:
        for spelling in (name, name.replace("vl-adapter", "adapter")):
            names[_letters(spelling)] = name
            if spelling.endswith("middleX"):  # "vl-pet-middle" is middleX
                names[_letters(spelling[:-1])] = name
    return names


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _unsupported(method: str) -> UsageError:
    suggestion = did_you_mean(method, SUPPORTED)
    return UsageError(
        f"no official state dict of {method!r} can be read{suggestion}; those of {', '.join(SUPPORTED)} can"
    )
