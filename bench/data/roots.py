"""Where data roots are: the miniature suite is generated on first use, others are folders that the user names."""

import os
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UsageError

MINI_SEED = 0


def cache_folder() -> Path:
    """Return where generated data are kept: ``$VLPET_BENCH_CACHE``, or ``vlpet-bench`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("VLPET_BENCH_CACHE") or Path(base) / "vlpet-bench")


def locate(name: str, known: Mapping[str, Path]) -> Path:
    """Return the folder of a data root; ``mini`` is generated if need be.

    Raises:
        UsageError: no folder was given for the name, or it is not there.
    """
    if name in known:
        if not known[name].is_dir():
            raise UsageError(f"--data {name}={known[name]}: no such folder")
        return known[name]
    if name == "mini":
        from bench.mini.write import edition, ensure

        return ensure(cache_folder() / f"mini-{edition()}-seed{MINI_SEED}", MINI_SEED)
    raise UsageError(f"data {name!r}: say where its folder is with --data {name}=PATH (its layout is the official one)")


def why_blocked(name: str, suite: str, known: Mapping[str, Path]) -> str:
    """Say why runs on a data root cannot begin, "" if nothing speaks against it; reads and generates nothing.

    Whether every file is there and whole is for ``data check`` to say.
    """
    from bench.data.check import ANNOTATIONS

    if name == "mini" and name not in known:
        return ""
    try:
        root = locate(name, known)
    except UsageError as fault:
        return str(fault)
    patterns = ANNOTATIONS.get(suite, ())
    if patterns and not any(path for pattern in patterns for path in root.glob(pattern)):
        return f"{root}: no annotations of {suite} ({', '.join(patterns)})"
    return ""


def is_synthetic(root: Path) -> bool:
    """Return whether a root was generated: the generator leaves ``mini.json`` there."""
    return (root / "mini.json").is_file()
