"""The visual features of examples: one file per image or video, two for a pair of images; or the same, packed."""

import threading
from pathlib import Path

import numpy as np

from bench import suites, tasks
from bench.data import example_tables, feature_files
from bench.data.feature_files import FeatureArray, Kind
from bench.data.feature_inspection import list_folder
from bench.data.packs import FeaturePack, PackFault, find_pack
from bench.errors import UsageError

CACHE_BYTES = 2 << 30


class FeatureStore:
    """Loads the features of examples below a data root; several threads may do so at once.

    Features of a folder that is packed are read from the pack and may be views of the file, which cannot be written to.
    Of others, the files read last are kept in memory, up to 2 GiB.

    Args:
        root: the data root.
        kind: the kind of features that a suite has: ``grid`` or ``frames``.
        n_frames: the number of rows that frames are brought to.
        cache_bytes: the size of the memory for files.
    """

    def __init__(self, root: Path, kind: Kind, *, n_frames: int = 64, cache_bytes: int = CACHE_BYTES) -> None:
        self.root = root
        self.kind = kind
        self.n_frames = n_frames
        self._room = cache_bytes
        self._cache: dict[str, FeatureArray] = {}
        self._packs: dict[str, FeaturePack | None] = {}
        self._lock = threading.Lock()

    def load(self, example: tasks.Example) -> FeatureArray:
        """Return float32 features ``(v, f)``, or ``(2, v, f)`` for a pair of images.

        Raises:
            UsageError: a file is missing, or has no features of the right kind, or a pack is damaged or older than its
                files; it is named.
        """
        files = [self._file(name) for name in example.visual]
        if len({features.shape for features in files}) > 1:
            raise UsageError(
                f"{' and '.join(example.visual)}: features of shapes {' and '.join(str(f.shape) for f in files)}; "
                "a pair needs equal ones, extract them the same way"
            )
        return files[0] if len(files) == 1 else np.stack(files)

    def _file(self, name: str) -> FeatureArray:
        folder, _, file = name.rpartition("/")
        pack = self._pack(folder)
        if pack is not None and file in pack:
            return self._resized(pack.read(file))
        with self._lock:
            if name in self._cache:
                return self._cache[name]
        features = self._resized(feature_files.read(self.root / name, self.kind))
        with self._lock:
            if name not in self._cache:
                self._cache[name] = features
                self._room -= features.nbytes
            while self._room < 0:
                oldest = next(iter(self._cache))
                self._room += self._cache.pop(oldest).nbytes
        return features

    def _resized(self, features: FeatureArray) -> FeatureArray:
        return resize(features, self.n_frames) if self.kind == "frames" else features

    def _pack(self, folder: str) -> FeaturePack | None:
        """Return the pack of a folder, compared once with the files that are beside it."""
        with self._lock:
            if folder not in self._packs:
                pack = find_pack(self.root / folder)
                if pack is not None:
                    if pack.kind != self.kind:
                        raise PackFault(self.root / folder, f"is a pack of {pack.kind}, expected {self.kind}")
                    pack.require_current(list_folder(self.root / folder))
                self._packs[folder] = pack
            return self._packs[folder]


def resize(features: FeatureArray, frames: int) -> FeatureArray:
    """Bring ``(l, f)`` to exactly ``frames`` rows: zero rows behind, or an adaptive maximum over time.

    Row i of a longer video is the maximum over rows floor(i l / frames) to ceil((i + 1) l / frames) - 1.
    """
    length = len(features)
    if length <= frames:
        return np.concatenate([features, np.zeros((frames - length, features.shape[1]), np.float32)])
    bounds = [(i * length // frames, -(-(i + 1) * length // frames)) for i in range(frames)]
    return np.stack([features[begin:end].max(axis=0) for begin, end in bounds])


def feat_dim(root: Path, task: tasks.Task) -> int:
    """Return the number of feature columns of a task, read off its first training example."""
    example = example_tables.read(task, root, "train")[0]
    return int(FeatureStore(root, suites.get(task.suite).features.kind).load(example).shape[-1])
