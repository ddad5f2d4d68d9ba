"""Visual features as the official extractors leave them: per-image h5 grids, per-video npz frames."""

import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench import suites, tasks
from bench.errors import UsageError

FeatureArray = NDArray[np.float32]
CACHE_BYTES = 2 << 30


class FeatureStore:
    """Loads the features of examples below a data root and keeps the files read last in memory, up to 2 GiB.

    Args:
        root: the data root.
        kind: the kind of features that a suite has: ``grid`` or ``frames``.
        n_frames: the number of rows that frames are brought to.
        cache_bytes: the size of the memory for files.
    """

    def __init__(
        self, root: Path, kind: Literal["grid", "frames"], *, n_frames: int = 64, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.root = root
        self.kind = kind
        self.n_frames = n_frames
        self._room = cache_bytes
        self._cache: dict[str, FeatureArray] = {}

    def load(self, example: tasks.Example) -> FeatureArray:
        """Return float32 features ``(v, f)``, or ``(2, v, f)`` for a pair of images.

        Raises:
            UsageError: a file is missing, or has no features of the right kind; it is named.
        """
        files = [self._file(name) for name in example.visual]
        if len({features.shape for features in files}) > 1:
            raise UsageError(
                f"{' and '.join(example.visual)}: features of shapes {' and '.join(str(f.shape) for f in files)}; "
                "a pair needs equal ones, extract them the same way"
            )
        return files[0] if len(files) == 1 else np.stack(files)

    def _file(self, name: str) -> FeatureArray:
        if name in self._cache:
            return self._cache[name]
        path = self.root / name
        features = read_grid(path) if self.kind == "grid" else resize(read_frames(path), self.n_frames)
        self._cache[name] = features
        self._room -= features.nbytes
        while self._room < 0:
            oldest = next(iter(self._cache))
            self._room += self._cache.pop(oldest).nbytes
        return features


def read_grid(path: Path) -> FeatureArray:
    """Read ``{image id}/features`` of an h5 file, ``(tokens, f)``, float16 or float32."""
    import h5py

    key = f"{path.stem}/features"
    try:
        with h5py.File(path, "r") as file:
            if key not in file:
                raise UsageError(f"{path}: has no dataset {key!r} (there are: {', '.join(file)})")
            return _checked(file[key][()], path, key)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such feature file; check the data root (--data NAME=PATH)") from None
    except (OSError, TypeError) as error:  # TypeError: a group where the dataset should be
        raise UsageError(f"{path}: not a readable h5 file ({error}); extract or fetch it again") from None


def read_frames(path: Path) -> FeatureArray:
    """Read ``features`` of an npz file, ``(frames, f)``."""
    try:
        with np.load(path) as file:
            if "features" not in file:
                raise UsageError(f"{path}: has no array 'features' (there are: {', '.join(file)})")
            return _checked(file["features"], path, "features")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such feature file; check the data root (--data NAME=PATH)") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:  # TypeError: a bare npy
        raise UsageError(f"{path}: not a readable npz file ({error}); extract or fetch it again") from None


def _checked(values: np.ndarray, path: Path, key: str) -> FeatureArray:
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise UsageError(
            f"{path}: {key!r} is {values.dtype} of shape {values.shape}, expected floats (tokens, dimensions)"
        )
    return np.ascontiguousarray(values, dtype=np.float32)


def resize(features: FeatureArray, frames: int) -> FeatureArray:
    """Bring ``(l, f)`` to exactly ``frames`` rows: zero rows behind, or an adaptive maximum over time.

    Row i of a longer video is the maximum over rows floor(i l / frames) to ceil((i + 1) l / frames) - 1.
    """
    length = len(features)
    if length <= frames:
        return np.concatenate([features, np.zeros((frames - length, features.shape[1]), np.float32)])
    bounds = [(i * length // frames, -(-(i + 1) * length // frames)) for i in range(frames)]
    return np.stack([features[begin:end].max(axis=0) for begin, end in bounds])


def feat_dim(root: Path, suite: str) -> int:
    """Return the number of feature columns of a suite, read off the first training example of its first official
    task."""
    chosen = suites.get(suite)
    example = tasks.get(chosen.official_tasks[0]).read(root, "train")[0]
    return int(FeatureStore(root, chosen.features.kind).load(example).shape[-1])
