"""Which of our methods an official name means."""

import re

import methods
from bench.errors import UsageError, did_you_mean
from methods import ResolvedMethod, vl_pet

SIZES = tuple(f"vl-pet-{size}" for size in vl_pet.SIZES)
READABLE = (
    *("full", "projector-only", "bitfit", "prompt", "prompt-multiple"),
    *("compacter", "compacter-multiple", "hyperformer", "lora", "lora-multiple", "lst"),
    *("vl-adapter", "vl-adapter-multiple", "vl-adapter-half-down", "vl-adapter-half-up"),
    *SIZES,
    *(f"{base}+{size}" for base in ("vl-adapter", "compacter") for size in SIZES),
)
SHARED = {"all": "", "none": "-multiple", "down": "-half-down", "up": "-half-up"}


def called(method: "str | ResolvedMethod") -> "ResolvedMethod":
    """Return the method of an official name.

    Official names are written in many ways: case, hyphens and underscores do not matter, a backbone in front
    (``bart_lora``) or a source behind (``lora_lst``) neither. What the official code calls an adapter is VL-Adapter's.

    Raises:
        UsageError: no official state dict of such a method can be read.
    """
    if isinstance(method, ResolvedMethod):
        if method.name in READABLE:
            return method
        raise _unreadable(method.name)
    letters = _letters(method)
    bare = re.sub(r"^(vl)?(bart|t5)(base|large|small)?", "", letters)
    core = re.sub(r"^single|(single|lst|vladapter|official)$", "", bare)
    names = _names()
    for form in (letters, bare, core):
        if form in names:
            return methods.get(names[form])
    raise _unreadable(method)


def shared_as(chosen: "ResolvedMethod", share: str) -> str:
    """Return the name of a method with this sharing over tasks, its own where none is registered for it."""
    base = re.sub("|".join(f"{ending}$" for ending in SHARED.values() if ending), "", chosen.name)
    return base + SHARED[share] if base + SHARED[share] in READABLE else chosen.name


def _names() -> dict[str, str]:
    """Every method that can be read, by the letters of the names it goes by."""
    found = {f"bitfit{reading}": "bitfit" for reading in ("vlpet", "added", "withbiasesadded")}
    found["compacteroriginal"] = "compacter"  # the same switches of the official trainer, told from the tensors
    for name in READABLE:
        for form in (name, name.replace("vl-adapter", "adapter")):
            found[_letters(form)] = name
            if form.endswith("middleX"):
                found[_letters(form[:-1])] = name
    return found


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _unreadable(method: str) -> UsageError:
    near = did_you_mean(method, READABLE)
    return UsageError(f"no official state dict of {method!r} can be read{near}; those of {', '.join(READABLE)} can")
