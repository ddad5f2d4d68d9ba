"""Extraction: the features of pictures and videos by an image encoder, in the files that the suites read.

A folder of features has a manifest, which says how they were made, and the checksums of their values. Every feature
file appears whole or not at all; an interrupted extraction goes on with what is missing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.data.extraction_manifest import CHECKSUMS, MANIFEST, checksum, checksums, read_manifest
from bench.data.feature_files import FeatureArray, Kind
from bench.data.pictures import MAX_FRAMES, Source, read_frames, read_picture
from bench.encoders import LoadedEncoder
from bench.encoders.encoder import Pixels, Preprocessing
from bench.errors import UsageError
from bench.files import atomic_write, explain_write_errors, parse_json, write_json

SUFFIX: dict[Kind, str] = {"grid": ".h5", "frames": ".npz"}
FEW = 64  # pictures for which no other process is started
AHEAD = 4  # pictures or videos that every process reads ahead


@dataclass
class ExtractionReport:
    """What was done: numbers of feature files written now and kept from before, and what is wrong with the others."""

    written: int = 0
    kept: int = 0
    faults: list[str] = field(default_factory=list)


class _Pixels(Dataset[tuple[int, Any]]):
    """The pixels of every source, ``(n, 3, h, w)``, or what is wrong with it."""

    def __init__(self, sources: Sequence[Source], preprocessing: Preprocessing, kind: Kind, seconds: float) -> None:
        self._sources, self._preprocessing = sources, preprocessing
        self._kind, self._seconds = kind, seconds

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        path = self._sources[index].path
        try:
            if self._kind == "grid":
                return index, torch.from_numpy(self._preprocessing(read_picture(path))[None])
            pixels: list[Pixels] = []
            for frame in read_frames(path, self._seconds):
                if len(pixels) == MAX_FRAMES:
                    raise UsageError(f"{path}: has more than {MAX_FRAMES:,} frames; cut it, or take fewer (--every)")
                pixels.append(self._preprocessing(frame))
            return index, torch.from_numpy(np.stack(pixels))
        except UsageError as fault:
            return index, str(fault)


def extract(
    sources: Sequence[Source],
    encoder: LoadedEncoder,
    kind: Kind,
    out: Path,
    *,
    seconds: float,
    dtype: str = "float16",
    batch_size: int = 64,
    jobs: int = 1,
    device: Any = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExtractionReport:
    """Write the features of pictures (grids) or videos (a row for each frame); files that are there are kept.

    Args:
        sources: the pictures or videos.
        encoder: computes the features.
        kind: ``grid``: ``{name}.h5`` with ``{name}/features``; ``frames``: ``{name}.npz`` with ``features``.
        out: the folder of the feature files.
        seconds: between two frames of a video.
        dtype: of the stored values, ``float16`` or ``float32``.
        batch_size: pictures that the encoder sees at once. Every batch has as many, so that features do not depend on
            what else is extracted.
        jobs: processes that read pictures.
        device: where the encoder computes.
        progress: called with the numbers of sources done and of all.

    Raises:
        UsageError: the folder has features that were made otherwise, or cannot be written.
    """
    report = ExtractionReport()
    with explain_write_errors(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        _begin(out, kind, _manifest(encoder, kind, seconds, dtype))
        digests = checksums(out)
        todo = [s for s in sources if s.name not in digests or not (out / f"{s.name}{SUFFIX[kind]}").is_file()]
        report.kept = len(sources) - len(todo)
        progress(report.kept, len(sources))
        encoder.network.to(device)
        with (out / CHECKSUMS).open("a", encoding="utf-8", newline="\n") as log, torch.inference_mode():
            pixels = _Pixels(todo, encoder.preprocessing, kind, seconds)
            for index, features in _features(_in_order(pixels, jobs), encoder, kind, batch_size, device):
                if isinstance(features, str):
                    report.faults.append(features)
                else:
                    _write(out, todo[index].name, kind, features.numpy().astype(dtype), log)
                    report.written += 1
                progress(report.kept + report.written + len(report.faults), len(sources))
    return report


def _manifest(encoder: LoadedEncoder, kind: Kind, seconds: float, dtype: str) -> dict[str, Any]:
    """Return how features are made, in plain data."""
    content = {
        "encoder": encoder.name,
        "weights": encoder.weights,
        "preprocessing": dict(encoder.preprocessing.facts()),
        "features": kind,
        "seconds_between_frames": seconds if kind == "frames" else None,
        "dtype": dtype,
        "versions": {name: version(name) for name in ("torch", "transformers", "pillow")},
    }
    return parse_json(json.dumps(content))  # tuples become lists, as in the file


def _begin(out: Path, kind: Kind, manifest: dict[str, Any]) -> None:
    """Write the manifest, or compare the one that is there."""
    path = out / MANIFEST
    if not path.exists():
        if any(out.glob(f"*{SUFFIX[kind]}")):
            raise UsageError(f"{out}: has features, but no {MANIFEST} says how they were made; choose another folder")
        write_json(path, manifest)
        return
    earlier = read_manifest(out) or {}
    for name in manifest.keys() - {"versions"}:
        if earlier.get(name) != manifest[name]:
            raise UsageError(
                f"{path}: {name} is {earlier.get(name)!r}, now it would be {manifest[name]!r}; "
                "features of one folder are made in one way: choose another folder with --out"
            )


def _in_order(pixels: _Pixels, jobs: int) -> Iterator[tuple[int, Any]]:
    """Yield the pixels of all sources in order, read ahead by processes where that pays."""
    if jobs < 2 or len(pixels) <= FEW:
        yield from (pixels[index] for index in range(len(pixels)))
        return
    yield from DataLoader(
        pixels, batch_size=None, num_workers=jobs, prefetch_factor=AHEAD, multiprocessing_context="spawn"
    )


def _features(
    pixels: Iterator[tuple[int, Any]], encoder: LoadedEncoder, kind: Kind, batch_size: int, device: Any
) -> Iterator[tuple[int, Tensor | str]]:
    """Yield the features of every source, ``(rows, columns)``, or what is wrong with it.

    Pictures of several sources go through the encoder together, those of a long video in several batches.
    """
    compute = encoder.network.grid if kind == "grid" else encoder.network.embedding
    waiting: list[Tensor] = []  # pictures that have not been encoded
    done: list[Tensor] = []  # features of pictures whose source is not complete
    unfinished: list[tuple[int, int]] = []  # index and number of pictures of the sources that these belong to

    def encode(count: int) -> None:
        batch = torch.stack(waiting[:count])
        del waiting[:count]
        filler = batch.new_zeros(batch_size - count, *batch.shape[1:])
        done.extend(compute(torch.cat([batch, filler]).to(device))[:count].float().cpu())

    def completed() -> Iterator[tuple[int, Tensor]]:
        while unfinished and len(done) >= unfinished[0][1]:
            index, count = unfinished.pop(0)
            rows = done[:count]
            del done[:count]
            yield index, rows[0] if kind == "grid" else torch.stack(rows)

    for index, given in pixels:
        if isinstance(given, str):
            yield index, given
            continue
        unfinished.append((index, len(given)))
        waiting.extend(given)
        while len(waiting) >= batch_size:
            encode(batch_size)
        yield from completed()
    if waiting:
        encode(len(waiting))
    yield from completed()


def _write(out: Path, name: str, kind: Kind, features: FeatureArray, log: IO[str]) -> None:
    """Write a feature file, then its checksum."""
    with atomic_write(out / f"{name}{SUFFIX[kind]}", durable=False) as file:
        if kind == "frames":
            np.savez(file, features=features)
        else:
            import h5py

            with h5py.File(file, "w", libver="latest") as store:
                store.create_dataset(f"{name}/features", data=features)
    log.write(f"{name}\t{checksum(features)}\n")
    log.flush()
