"""The order in which families of methods are listed in long tables, and how they look in plots.

Which family a method belongs to is part of the method and comes with the planned runs (:attr:`RunEntry.family`); here
stand only the order and the appearance of family names. A name that is not listed here is placed and drawn like
"other", but keeps its own heading and legend entry.
"""

UNKNOWN = "other"
ORDER = ("reference", "scale and bias", "prompt", "low rank", "adapter", "side network", UNKNOWN, "VL-PET", "enhanced")


def sort_key(family: str) -> tuple[int, str]:
    """Return the key by which rows of a long table are sorted by family: listed families first, then by name.

    >>> sorted(["VL-PET", "mixture", "prompt", "other"], key=sort_key)
    ['prompt', 'mixture', 'other', 'VL-PET']
    """
    return ORDER.index(family if family in ORDER else UNKNOWN), family
