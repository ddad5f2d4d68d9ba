"""Which methods are of one kind: they stand together in long tables, and share a colour and a marker in plots."""

MEMBERS = {
    "reference": ("full", "projector-only"),
    "VL-PET": ("vl-pet",),
    "adapter": ("adapter", "vl-adapter", "compacter", "hyperformer", "houlsby", "pfeiffer", "parallel", "uniadapter"),
    "low rank": (
        *("lora", "rslora", "dora", "adalora", "delora", "gralora", "glora", "randlora", "unilora", "vblora"),
        *("vera", "pvera", "hira", "loha", "lokr", "miss", "krona", "deft"),
    ),
    "scale and bias": ("bitfit", "beft", "ia3", "ln", "layernorm", "road", "clipfit"),
    "prompt": ("prompt", "prefix", "p-tuning"),
    "side network": ("lst", "ladder", "read"),
}
ORDER = ("reference", "scale and bias", "prompt", "low rank", "adapter", "side network", "other", "VL-PET", "enhanced")


def family_name(method: str) -> str:
    """The family of a method by its name; HF PEFT's are sorted with ours, a name that is not known is "other".

    >>> family_name("lora+vl-pet-large"), family_name("peft:dora"), family_name("vl-pet-small[rank=4]")
    ('enhanced', 'low rank', 'VL-PET')
    """
    base = method.split("[")[0].removeprefix("peft:")
    if "+" in base:
        return "enhanced"
    return next((name for name, stems in MEMBERS.items() if base.startswith(stems)), "other")


def by_family(method: str) -> int:
    """The place of a method's family in long tables."""
    return ORDER.index(family_name(method))
