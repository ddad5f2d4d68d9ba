"""The pictures that features were extracted from, where they lie beside them: for people who look at examples."""

import base64
import io
import os
from functools import lru_cache
from pathlib import Path

from PIL import Image

from bench.data.pictures import PICTURES, read_picture
from bench.errors import UsageError

FRAMES_SHOWN = 4  # of a clip
THUMBNAIL = {1: 160, 2: 140}  # longer side in pixels, by the number of pictures of an example
SMALL_THUMBNAIL = 72  # of each where there are more
QUALITY = 70  # of JPEG


def picture_folder(folder: str) -> str:
    """Return where the pictures of a feature folder are in the official layout, both relative to the data root.

    >>> picture_folder("COCO/clip_features/data_clip_RN101_att")
    'COCO/images'
    >>> picture_folder("video/vis_features/tv/clip-vit")
    'video/frames/tv'
    """
    parts = folder.split("/")
    return f"video/frames/{parts[2]}" if parts[0] == "video" and len(parts) > 2 else f"{parts[0]}/images"


class PictureIndex:
    """Finds the pictures of examples.

    Args:
        root: the data root.
        folder: a folder with pictures, or folders of frames, named like the features; by default they are looked for
            below the root (:func:`picture_folder`).
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self._root = root
        self._folder = folder

    def find(self, visual: str) -> list[Path]:
        """Return the picture of a feature file, or the frames of a clip in order; none where they are not there."""
        base, _, name = visual.rpartition("/")
        path = _index(self._folder or self._root / picture_folder(base)).get(name.rpartition(".")[0])
        if path is None:
            return []
        return _pictures(path) if path.is_dir() else [path]


@lru_cache(maxsize=16)
def _index(folder: Path) -> dict[str, Path]:
    """Return pictures and folders of pictures by name; the first in alphabetical order of those of one name."""
    paths: dict[str, Path] = {}
    for base, folders, names in os.walk(folder):
        folders.sort()
        pictures = [name for name in sorted(names) if name.lower().endswith(PICTURES)]
        if pictures and Path(base) != folder:
            paths.setdefault(Path(base).name, Path(base))
        for name in pictures:
            paths.setdefault(Path(name).stem, Path(base, name))
    return paths


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def thumbnails(paths: list[Path]) -> list[str]:
    """Return small pictures as data URIs that a page can hold, at most four; one that cannot be read is left out."""
    chosen = paths if len(paths) <= FRAMES_SHOWN else [paths[i * (len(paths) - 1) // 3] for i in range(FRAMES_SHOWN)]
    side = THUMBNAIL.get(len(chosen), SMALL_THUMBNAIL)
    uris = []
    for path in chosen:
        try:
            picture = read_picture(path)
        except UsageError:
            continue
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        uris.append(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}")
    return uris
