"""Fingerprints: what a run was made of beyond its id, so that a score of other data is never taken for its own.

The id of a run names its data root and its backbone; it does not say what is in them. A fingerprint does, in parts:

- ``data``: the annotation files of the suite, by path below the data root;
- ``features``: names and sizes of the feature files, packed or not, by folder below the data root;
- ``backbone`` and ``tokenizer``: the files that are loaded, by name;
- ``method``: the specification of the method on this backbone, with what its parts state about weight decay.

They are written to ``fingerprints.json`` when a run begins and to its record when it ends. A finished run whose
fingerprints differ from those of the files that are there now is *stale*. A file that the run had and that is gone
differs; an annotation file or a feature folder that has been added does not, because the run did without it.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import methods
from bench import backbones, suites
from bench.data.roots import cache_folder, locate, walk
from bench.errors import UsageError
from bench.files import write_bytes
from methods.core.errors import MethodError

if TYPE_CHECKING:
    from bench.config import Run
    from bench.record_schema import Record

Fingerprints = dict[str, dict[str, str]]  # part -> name -> digest

DIGITS = 12  # of a SHA-256 in hexadecimal
CACHED_BYTES = 1 << 20  # of files at least so large, digests are kept in the cache folder
SETTLED_SECONDS = 5.0  # a file that was changed later than this may change again within one tick of its clock
WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.bin", "*.index.json")
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
)
ADDITIONS_MATTER = ("backbone", "tokenizer", "method", "annotations")
LISTED = 3  # differences that a note lists


class Expectations:
    """The fingerprints that runs would have if they began now, each part computed once.

    Args:
        roots: folders of data roots by logical name, as the user gave them.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = dict(roots)
        self._parts: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, run: "Run") -> Fingerprints:
        """Return the parts that can be told here: without the folder of its data root, those of data are left out.

        The further part ``annotations`` is what records of earlier versions have of the data.
        """
        backbone, options = run.backbone, json.dumps(run.overrides, sort_keys=True, default=str)
        parts: dict[str, tuple[tuple[str, ...], Callable[[], dict[str, str]]]] = {
            "backbone": (("backbone", backbone), partial(weight_digests, backbone)),
            "tokenizer": (("tokenizer", backbone), partial(tokenizer_digests, backbone)),
            "method": (("method", backbone, run.method, options), partial(method_digest, run)),
        }
        with suppress(UsageError, OSError):
            root = locate(run.data, run.suite, self._roots, make=False)
            parts |= {
                "data": (("data", str(root), run.suite), partial(annotation_digests, root, run.suite)),
                "features": (("features", str(root), run.suite), partial(feature_digests, root, run.suite)),
            }
        content: Fingerprints = {}
        for name, (key, compute) in parts.items():
            with suppress(UsageError, MethodError, OSError):
                if key not in self._parts:
                    self._parts[key] = compute()
                content[name] = self._parts[key]
        if "data" in content:
            content["annotations"] = {"all": overall(content["data"])}
            content["data"] = {name: digest[:DIGITS] for name, digest in content["data"].items()}
        return content


def of_run(run: "Run", root: Path) -> Fingerprints:
    """Return the fingerprints of a run that begins now on a data root, all read anew."""
    return stored(Expectations({run.data: root}).of(run))


def stored(content: Fingerprints) -> Fingerprints:
    """Return the parts that are written down."""
    return {part: names for part, names in content.items() if part != "annotations"}


def of_record(record: "Record") -> Fingerprints:
    """Return the fingerprints in a record; one of an earlier version has at most that of the annotations."""
    if record.fingerprints:
        return record.fingerprints
    digest = record.data.get("fingerprint")
    return {"annotations": {"all": str(digest)}} if digest else {}


def differences(recorded: Fingerprints, current: Fingerprints) -> list[str]:
    """Return a line for everything in which two fingerprints differ, with both digests; parts that one of them lacks
    are not compared.

    >>> differences({"data": {"a.json": "12"}}, {"data": {"a.json": "34", "b.json": "56"}, "method": {"spec": "78"}})
    ['data a.json: 12 then, 34 now']
    """
    lines = []
    for part in recorded.keys() & current.keys():
        before, now = recorded[part], current[part]
        names = before.keys() | now.keys() if part in ADDITIONS_MATTER else before.keys()
        lines += [
            f"{part} {name}: {before.get(name, 'not there')} then, {now.get(name, 'not there')} now"
            for name in names
            if before.get(name) != now.get(name)
        ]
    return sorted(lines)


def labels(records: Sequence["Record"]) -> dict[str, str]:
    """Return a short name, by run id, for what each run was made of.

    Two runs of the same method, backbone and data root have the same name if nothing that both tell differs: so a
    record of an earlier version shares it with a newer one on the same annotations.
    """
    groups: dict[str, list[tuple[Record, str]]] = {}
    names = {}
    for record in records:
        run = record.run
        key = json.dumps([run.data, run.suite, run.backbone, run.method, run.overrides], sort_keys=True, default=str)
        group = groups.setdefault(key, [])
        name = next((name for other, name in group if _alike(record, other)), None)
        if name is None:
            name = _text_digest(json.dumps(of_record(record), sort_keys=True))
            group.append((record, name))
        names[record.id] = name
    return names


def _alike(record: "Record", other: "Record") -> bool:
    if not (record.fingerprints and other.fingerprints):
        return record.data.get("fingerprint") == other.data.get("fingerprint")
    pairs = ((record.fingerprints, other.fingerprints), (other.fingerprints, record.fingerprints))
    return any(not differences(*pair) for pair in pairs)


def summary(lines: list[str]) -> str:
    """Join the first of these differences to one note."""
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "; ".join([*lines[:LISTED], *more])


def annotation_digests(root: Path, suite: str) -> dict[str, str]:
    """Return the digests of a suite's annotation files by their paths below the data root, in the suite's order."""
    paths = [path for pattern in suites.get(suite).annotations for path in sorted(root.glob(pattern))]
    return {str(path.relative_to(root)): file_digest(path) for path in paths}


def overall(digests: Mapping[str, str]) -> str:
    """Return one digest over the names and digests of annotation files, as records have it."""
    total = hashlib.sha256()
    for name, digest in digests.items():
        total.update(os.fsencode(name))
        total.update(bytes.fromhex(digest))
    return total.hexdigest()[:DIGITS]


def feature_digests(root: Path, suite: str) -> dict[str, str]:
    """Return a digest of the names and sizes of a suite's feature files for every folder below a data root.

    A pack has those of the files that it was made of, so that packing changes nothing, nor does deleting the files
    then; only one whose values are not exactly theirs gives another digest. How features were extracted is in it too,
    where a manifest says so.
    """
    from bench.data.extraction_manifest import MANIFEST
    from bench.data.packs import find_pack  # imports numpy, which `status` does without

    suffix = suites.get(suite).features.suffix
    digests = {}
    for folder in walk(root):
        with suppress(OSError), os.scandir(folder) as entries:
            pack = find_pack(Path(folder))
            sizes = {name: size for name, (size, _) in pack.sources.items()} if pack else {}
            sizes |= {entry.name: _size(entry) for entry in entries if entry.name.endswith(suffix)}
            if sizes:
                text = "\n".join(f"{name}\t{size}" for name, size in sorted(sizes.items()))
                text += "" if pack is None or pack.is_exact else f"\npacked as {pack.dtype}"
                with suppress(OSError):  # most features come without a manifest
                    text += f"\nextracted as in {file_digest(Path(folder, MANIFEST))}"
                digests[os.path.relpath(folder, root)] = hashlib.sha256(os.fsencode(text)).hexdigest()[:DIGITS]
    return digests


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere
        return -1


def weight_digests(backbone: str) -> dict[str, str]:
    """Return the digests of the configuration and the weights of a backbone; a preset has no files, but a shape."""
    folder = backbones.folders(backbone)[0]
    if folder is None:
        return {"preset": _text_digest(repr(backbones.shape(backbone)))}
    return _file_digests(folder, WEIGHTS)


def tokenizer_digests(backbone: str) -> dict[str, str]:
    """Return the digests of the files of a backbone's tokeniser, none where it has not been fetched yet.

    Raises:
        UsageError: the files are not on this machine.
    """
    folder = backbones.folders(backbone)[1]
    if folder is None:
        raise UsageError(f"backbone {backbone!r}: its tokeniser is not on this machine")
    return _file_digests(folder, TOKENIZER)


def method_digest(run: "Run") -> dict[str, str]:
    """Return the digest of the specification of a run's method on its backbone: not of its source text."""
    spec = methods.get(run.method, **run.overrides).spec(backbones.shape(run.backbone))
    content = spec.data() | ({"official_decay": spec.official_decay} if spec.official_decay else {})
    return {"spec": _text_digest(json.dumps(content, sort_keys=True))}


def _file_digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {path.name: file_digest(path)[:DIGITS] for path in paths}


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:DIGITS]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; that of a large one is kept in the cache folder by path, size and time of change.

    Raises:
        OSError: the file cannot be read, or is no regular file.
    """
    real = os.path.realpath(path)
    status = os.stat(real)
    key = f"{real}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
    entry = cache_folder() / "digests" / hashlib.sha256(key).hexdigest()
    if status.st_size >= CACHED_BYTES:
        with suppress(OSError, ValueError):
            digest = entry.read_text(encoding="ascii")
            if re.fullmatch("[0-9a-f]{64}", digest):
                return digest
    with open(os.open(real, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_size >= CACHED_BYTES and time.time() - status.st_mtime > SETTLED_SECONDS:
        with suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(entry, digest.encode())
    return digest
