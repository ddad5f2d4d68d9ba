"""Arrays in safetensors files that are mapped into memory, so that all processes of a machine share their pages."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from bench.files import atomic_write, require_regular_file

DTYPES = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "U64": np.uint64,
}
MAX_HEADER = 1 << 20  # bytes

Arrays = dict[str, NDArray[Any]]


def map_arrays(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Map the arrays of a file into memory; return them by name, and the file's metadata.

    The reader of the library copies every array that is not a tensor of torch; this one copies nothing, and what it
    accepts has the size that its header declares.

    Raises:
        OSError, ValueError: it is no such file, or is cut off.
    """
    require_regular_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= MAX_HEADER:
            raise ValueError(f"its header has {length:,} bytes")
        try:
            header = json.loads(file.read(length))
            metadata = {str(name): str(value) for name, value in header.pop("__metadata__", {}).items()}
            places: dict[str, tuple[Any, tuple[int, ...], int, int]] = {}
            for name, item in header.items():
                begin, end = map(int, item["data_offsets"])
                places[name] = DTYPES[item["dtype"]], tuple(map(int, item["shape"])), begin, end
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"its header declares something else than arrays ({error!r})") from None
    start = 8 + length
    arrays: Arrays = {}
    for name, (dtype, shape, begin, end) in places.items():
        if min(shape, default=0) < 0 or begin < 0 or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ValueError(f"{name!r} is declared with another size than it has")
        if start + end > size:
            raise ValueError(f"it has {size:,} bytes and declares at least {start + end:,}")
        is_empty = begin == end  # which cannot be mapped
        mapped = np.empty(shape, dtype) if is_empty else np.memmap(path, dtype, "r", start + begin, shape)
        arrays[name] = mapped.view(np.ndarray)
    return arrays, metadata


def digest(arrays: Mapping[str, NDArray[Any]], *texts: str) -> str:
    """Return a digest of the values of arrays, in the order of their names, and of texts."""
    total = xxhash.xxh3_128()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        if array.size:
            total.update(array.data.cast("B"))
    for text in texts:
        total.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return total.hexdigest()


def _seal(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    return digest(arrays, *map(repr, sorted(metadata.items())))


def write_verified(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Write a file of the cache atomically, for :func:`read_verified`; one that cannot be written is not there."""
    from safetensors.numpy import save

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save(arrays, {**metadata, "digest": _seal(arrays, metadata)})
        with atomic_write(path, durable=False) as file:
            file.write(content)


def read_verified(path: Path) -> tuple[Arrays, dict[str, str]] | None:
    """Map a file that :func:`write_verified` wrote; None where there is none, or it is damaged."""
    with suppress(OSError, ValueError):
        arrays, metadata = map_arrays(path)
        expected = metadata.pop("digest", "")
        if _seal(arrays, metadata) == expected:
            return arrays, metadata
    return None
