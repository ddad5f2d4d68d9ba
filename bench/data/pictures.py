"""Pictures and the frames of videos, read with Pillow and PyAV."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bench.errors import UsageError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
FRAME_SECONDS = 1.5  # between the frames of the published features
MAX_FRAMES = 4096  # of one video, whose pixels a process holds at once


@dataclass(frozen=True)
class Source:
    """A picture, a video, or a folder with the frames of a video.

    Attributes:
        name: the id of the image or video: the file's or folder's name without its ending.
        path: where it is.
    """

    name: str
    path: Path


def find_pictures(folder: Path) -> list[Source]:
    """Return the pictures in a folder and the folders below it, by name.

    Raises:
        UsageError: there are none, or two have the same name, which would be written to the same feature file.
    """
    paths = (Path(base) / n for base, _, names in os.walk(folder) for n in names if n.lower().endswith(PICTURES))
    return _named([Source(path.stem, path) for path in paths if not path.name.startswith(".")], folder, "pictures")


def find_videos(folder: Path) -> list[Source]:
    """Return the videos in a folder and the folders below it, by name: files, and folders of pictures.

    Raises:
        UsageError: there are none, or two have the same name.
    """
    sources = []
    for base, _, names in os.walk(folder):
        sources += [
            Source(Path(n).stem, Path(base) / n) for n in names if n.lower().endswith(VIDEOS) and not n.startswith(".")
        ]
        if Path(base) != folder and any(name.lower().endswith(PICTURES) for name in names):
            sources.append(Source(Path(base).name, Path(base)))
    return _named(sources, folder, "videos (files, or folders of frames)")


def _named(sources: list[Source], folder: Path, noun: str) -> list[Source]:
    if not sources:
        raise UsageError(f"{folder}: no {noun} there")
    by_name: dict[str, Source] = {}
    for source in sorted(sources, key=lambda source: source.path):
        other = by_name.setdefault(source.name, source)
        if other is not source:
            raise UsageError(
                f"{source.path}: has the name of {other.path}, which names the features; extract the two folders apart"
            )
    return [by_name[name] for name in sorted(by_name)]


def read_picture(path: Path) -> Image.Image:
    """Return a picture in RGB; its orientation tag is not looked at, as the published extractors do not.

    Raises:
        UsageError: it is no picture, or not a whole one.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except Exception as error:  # of a damaged file Pillow raises almost anything
        raise UsageError(f"{path}: not a readable picture ({_reason(error)})") from None


def read_frames(path: Path, seconds: float) -> Iterator[Image.Image]:
    """Yield the frames of a video in RGB: what it shows at 0, ``seconds``, 2 ``seconds``, ...

    The pictures of a folder are all its frames, by name: they were taken at some rate before.

    Raises:
        UsageError: it is no video, not a whole one, or has too many frames.
    """
    if path.is_dir():
        for file in sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES):
            yield read_picture(file)
        return
    try:
        import av
    except ImportError:
        raise UsageError("reading videos needs PyAV: pip install 'vlpet-bench[features]'") from None
    taken, shown, begin = 0, None, 0.0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                begin = frame.time if shown is None else begin
                time = frame.time - begin
                while shown is not None and taken * seconds < time:
                    yield shown.to_image()
                    taken += 1
                shown = frame
            if shown is not None and taken * seconds <= time:
                yield shown.to_image()
    except Exception as error:  # of a damaged file FFmpeg raises almost anything
        raise UsageError(f"{path}: not a readable video ({_reason(error)})") from None
    if shown is None:
        raise UsageError(f"{path}: a video without frames")


def _reason(error: BaseException) -> str:
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__:.200}"
