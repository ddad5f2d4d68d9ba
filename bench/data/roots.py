"""Where data roots are: a suite's miniature data are generated on first use, others are folders that the user names."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import suites
from bench.errors import UsageError
from bench.suites import Miniature, Suite

MINI = "mini"  # the logical name of the generated data
OFFICIAL = "official"  # the logical name of the published data: other roots have the sizes that their owners want
MINI_SEED = 0
MARK = "mini.json"  # stands in every generated root


def cache_folder() -> Path:
    """Return where generated data are kept: ``$VLPET_BENCH_CACHE``, or ``vlpet-bench`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("VLPET_BENCH_CACHE") or Path(base) / "vlpet-bench")


def locate(name: str, suite: str, folders: Mapping[str, Path], *, make: bool = True) -> Path:
    """Return the folder of a data root for a suite; ``mini`` is the suite's miniature, generated if need be.

    Args:
        name: logical name of the data root.
        suite: name of the suite.
        folders: folders by logical name, as the user gave them.
        make: generate a miniature that is not there; else it is an error.

    Raises:
        UsageError: no folder was given for the name, it is not there, or the suite has no miniature.
    """
    if name in folders:
        if not os.path.isdir(folders[name]):
            raise UsageError(f"--data {name}={folders[name]}: no such folder")
        return folders[name]
    if name != MINI:
        raise UsageError(
            f"data {name!r}: say where its folder is with --data {name}=PATH (its layout is the official one)"
        )
    miniature = suites.get(suite).miniature
    if miniature is None:
        raise UsageError(f"suite {suite!r} has no miniature data; name a folder with --data NAME=PATH")
    folder = miniature.name or f"mini-{suite}"
    root = cache_folder() / f"{folder}-{miniature.edition}-seed{MINI_SEED}"
    if not make and not root.is_dir():
        raise UsageError(f"{root}: the miniature data of {suite!r} have not been generated yet")
    return generate(miniature, root, MINI_SEED, "set VLPET_BENCH_CACHE to a folder that can be written")


def generate(miniature: Miniature, root: Path, seed: int = MINI_SEED, advice: str = "choose another folder") -> Path:
    """Return ``root``, generating it first where it is not there yet; it appears complete or not at all.

    Raises:
        UsageError: it cannot be written; ``advice`` is what the user is told to do.
    """
    try:
        return root if root.is_dir() else _generate(miniature, root, seed)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{root}: the miniature data cannot be written there ({reason}); {advice}") from error


def _generate(miniature: Miniature, root: Path, seed: int) -> Path:
    root.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(root):
        return root if root.is_dir() else _write(miniature, root, seed)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Let other processes of this machine wait, where the file system knows locks: a world takes half a minute."""
    lock = root.with_name(f".{root.name}.lock")
    with lock.open("w") as file:
        try:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            lock.unlink(missing_ok=True)


def _write(miniature: Miniature, root: Path, seed: int) -> Path:
    draft = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        miniature.write(draft, seed)
        if not is_synthetic(draft):
            (draft / MARK).write_text(json.dumps({"synthetic": True, "seed": seed}), encoding="utf-8")
        draft.chmod(0o755)
        draft.rename(root)
    except OSError:
        if not root.is_dir():  # else another process was first, with the same files
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def has_annotations(root: Path, suite: Suite) -> bool:
    """Return whether a root has any annotation file of a suite."""
    return any(True for pattern in suite.annotations for _ in root.glob(pattern))


def walk(root: Path) -> Iterator[str]:
    """Yield every folder below a root once, those behind symbolic links too, but not hidden ones."""
    visited = set()
    for folder, names, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            names.clear()
            continue
        visited.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield folder


def feature_folders(root: Path, suite: Suite) -> list[Path]:
    """Return the folders below a root that have feature files of a suite's kind, or a pack of them."""
    from bench.data.packs import FOLDER, INDEX  # imports numpy

    suffix = suite.features.suffix
    return [
        folder
        for folder in map(Path, walk(root))
        if any(name.endswith(suffix) for name in os.listdir(folder)) or (folder / FOLDER / INDEX).exists()
    ]


def why_blocked(name: str, suite: str, folders: Mapping[str, Path]) -> str:
    """Say why runs on a data root cannot begin, "" if nothing speaks against it; reads and generates nothing.

    Whether every file is there and complete is for ``data check`` to say.
    """
    if name == MINI and name not in folders and suites.get(suite).miniature:
        return ""
    try:
        root = locate(name, suite, folders)
    except UsageError as fault:
        return str(fault)
    if not has_annotations(root, suites.get(suite)):
        return f"{root}: no annotations of {suite} ({', '.join(suites.get(suite).annotations)})"
    return ""


def is_synthetic(root: Path) -> bool:
    """Return whether a root was generated: the generator leaves ``mini.json`` there."""
    return (root / MARK).is_file()
