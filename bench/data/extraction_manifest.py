"""What stands beside extracted features: how they were made, and the checksums of their values."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from bench.data.feature_files import FeatureArray
from bench.errors import UsageError
from bench.files import parse_json, read_bytes

MANIFEST = "extraction.json"
CHECKSUMS = "extraction.checksums"  # a line for each feature file: name, tab, checksum of its values


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return how the features of a folder were made, None where nothing says so; UsageError where it is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content = parse_json(read_bytes(path))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        return content
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable manifest ({error}); extract to a new folder") from None


@lru_cache(maxsize=16)
def _checksums(folder: Path, size: int, changed: int) -> dict[str, str]:
    pairs = (line.split("\t") for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def checksums(folder: Path) -> dict[str, str]:
    """Return the checksums of the features of a folder by the name of the image or video; none where none are kept."""
    with suppress(OSError, UnicodeDecodeError):
        status = (folder / CHECKSUMS).stat()
        return _checksums(folder, status.st_size, status.st_mtime_ns)
    return {}


def checksum(features: FeatureArray) -> str:
    """Return the checksum of features in float32, whatever type they were stored in."""
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(features, np.float32).tobytes())
