"""Feature files: h5 grids of images and npz frames of videos, looked at before anything is allocated or read.

A feature file comes from somewhere else. It may be no file at all, declare more than any memory holds, lead to other
files of the system, or hold values that make every result NaN: each of these is one error that names the file and the
dataset.
"""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.files import require_file

FeatureArray = NDArray[np.float32]
Kind = Literal["grid", "frames"]
MAX_BYTES = 256 << 20  # of one file's features in float32; the published ones have less than 2 MiB
MAX_MAGNITUDE = 1e6  # of one value; those of CLIP are below 100, and far larger ones overflow in the model
ADVICE = "fetch or extract the features, or check the data root (--data NAME=PATH)"


def read(path: Path, kind: Kind) -> FeatureArray:
    """Return the features of a file, ``(rows, columns)``, in float32.

    Raises:
        UsageError: the file is missing or has no finite features of the right kind; it is named, with its dataset.
    """
    return read_grid(path) if kind == "grid" else read_frames(path)


def read_grid(path: Path) -> FeatureArray:
    """Read ``{image id}/features`` of an h5 file, ``(tokens, f)``, in any float type."""
    import h5py

    require_file(path, ADVICE, "feature file")
    key = f"{path.stem}/features"
    try:
        with h5py.File(path, "r") as file:
            dataset = _dataset(file, key, path)
            _check_declared(dataset.shape, dataset.dtype, path, key)
            if not _is_complete(dataset):
                raise UsageError(f"{path}: {key!r} declares {dataset.shape} but was not written; extract it again")
            return _checked(dataset[()], path, key)
    except UsageError:
        raise
    except BlockingIOError:
        raise UsageError(
            f"{path}: another process has locked it, or its file system knows no locks; set the environment variable "
            "HDF5_USE_FILE_LOCKING=FALSE to read it all the same"
        ) from None
    except Exception as error:  # of a damaged file h5py raises almost anything
        raise UsageError(f"{path}: not a readable h5 file ({error}); extract or fetch it again") from None


def _dataset(file: Any, key: str, path: Path) -> Any:
    """Return the dataset under a key, which must lie in this file: no link or storage may lead out of it."""
    import h5py

    node = file
    for name in key.split("/"):
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise UsageError(f"{path}: has no dataset {key!r} (there are: {', '.join(file):.200})")
        if not isinstance(link, h5py.HardLink):
            raise UsageError(f"{path}: {key!r} is a link to something else, expected the data; extract it again")
        node = node[name]
    if not isinstance(node, h5py.Dataset):
        raise UsageError(f"{path}: not a readable h5 file ({key!r} is no dataset); extract or fetch it again")
    if node.is_virtual or node.external:
        raise UsageError(f"{path}: {key!r} is stored in another file, expected the data; extract it again")
    return node


def _is_complete(dataset: Any) -> bool:
    """Return whether all of a dataset was written; what was not is read as a fill value."""
    if dataset.size == 0:
        return True
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size())
    expected = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() == expected)


def read_frames(path: Path) -> FeatureArray:
    """Read ``features`` of an npz file, ``(frames, f)``, in any float type."""
    size = require_file(path, ADVICE, "feature file").st_size
    key = "features"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in names:
                raise UsageError(f"{path}: has no array {key!r} (there are: {', '.join(names):.200})")
            member = archive.getinfo(archive.namelist()[names.index(key)])
            if member.file_size > MAX_BYTES or member.compress_size > size:
                raise UsageError(
                    f"{path}: {key!r} declares {member.file_size:,} bytes in a file of {size:,}; fetch it again"
                )
            with archive.open(member) as stream:
                shape, is_fortran, dtype = _header(stream)
                _check_declared(shape, dtype, path, key)
                values = np.frombuffer(stream.read(), dtype)
            return _checked(values.reshape(shape, order="F" if is_fortran else "C"), path, key)
    except UsageError:
        raise
    except Exception as error:  # of a damaged file zipfile, zlib and numpy's parser of headers raise almost anything
        raise UsageError(f"{path}: not a readable npz file ({error}); extract or fetch it again") from None


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, Any]:
    """Return shape, order and type of an array in npy format, whose values follow in the stream."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"its array has version {version} of the npy format, expected 1.0 or 2.0")


def _check_declared(shape: Sequence[int] | None, dtype: Any, path: Path, key: str) -> None:
    """Raise UsageError where what a file declares cannot be features, before any of it is read."""
    if shape is None or len(shape) != 2 or not np.issubdtype(dtype, np.floating):
        raise UsageError(f"{path}: {key!r} is {dtype} of shape {shape}, expected floats (tokens, dimensions)")
    if min(shape) < 1:
        raise UsageError(f"{path}: {key!r} has no values (its shape is {tuple(shape)}); extract it again")
    if math.prod(map(int, shape)) * 4 > MAX_BYTES:
        raise UsageError(
            f"{path}: {key!r} declares a shape of {tuple(shape)}, more than {MAX_BYTES >> 20} MiB; extract it again"
        )


def _checked(values: np.ndarray, path: Path, key: str) -> FeatureArray:
    """Return the values in float32, in which they must be finite and of a size that a model can compute with."""
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(values, dtype=np.float32)
    largest = np.abs(features).max()  # NaN where any value is
    if not np.isfinite(largest):
        number = np.count_nonzero(~np.isfinite(features))
        raise UsageError(
            f"{path}: {key!r} has {number:,} of {features.size:,} values that are NaN or infinite in float32; "
            "extract the features again"
        )
    if largest > MAX_MAGNITUDE:
        raise UsageError(
            f"{path}: {key!r} has values up to {largest:.3g}, expected at most {MAX_MAGNITUDE:.0e}; extract the "
            "features again"
        )
    return features
