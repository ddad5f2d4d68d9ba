"""The pictures of a miniature root as files, and their features: extracted as those of any pictures are.

Pictures stand beside the features, as in the official layout: ``COCO/images/NAME.jpg`` for
``COCO/clip_features/.../NAME.h5``, and the frames of a clip in ``video/frames/tv/NAME/`` for
``video/vis_features/tv/clip-vit/NAME.npz``.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random

from bench.data.extraction import extract
from bench.data.feature_files import Kind
from bench.data.pictures import FRAME_SECONDS, Source
from bench.encoders import load
from bench.errors import UsageError
from bench.mini.pictures import clip_pictures, scene_picture
from bench.mini.world import Clip, Scene

ENCODER = "mini"
QUALITY = 90  # of JPEG
MANY = 2000  # pictures for which processes of their own are started


class PictureFiles:
    """A recorder that keeps what every scene and clip shows, and then writes their pictures and features.

    Args:
        root: the data root whose annotations are being written.
        seed: of the world.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._seed = seed
        self._shown: dict[str, dict[str, Scene | Clip]] = {}  # by feature folder below the root, and name

    def scene(self, file: Path, scene: Scene) -> None:
        """Keep a scene."""
        self._keep(file, scene)

    def clip(self, file: Path, clip: Clip) -> None:
        """Keep a clip."""
        self._keep(file, clip)

    def _keep(self, file: Path, content: Scene | Clip) -> None:
        self._shown.setdefault(file.parent.relative_to(self._root).as_posix(), {})[file.stem] = content

    def write(self) -> None:
        """Write all pictures and features; of a large world with a process for each core, which takes half a
        minute."""
        sizes = {folder: _size(shown) for folder, shown in self._shown.items()}
        jobs = min(os.cpu_count() or 1, len(sizes)) if sum(sizes.values()) > MANY else 1
        if jobs == 1:
            for folder in sizes:
                self.write_folder(folder, self._root)
            return
        shares: list[list[str]] = [[] for _ in range(jobs)]
        for folder in sorted(sizes, key=lambda f: -sizes[f]):
            min(shares, key=lambda share: sum(sizes[f] for f in share)).append(folder)
        _run(shares, self._root, self._seed)

    def write_folder(self, folder: str, root: Path) -> None:
        """Write the pictures of one feature folder, and the features, below a root."""
        pictures = root / picture_folder(folder)
        pictures.mkdir(parents=True)
        sources = []
        shown = self._shown[folder]
        for name in sorted(shown):
            rng = Random(f"{self._seed}/{folder}/{name}")
            content = shown[name]
            if isinstance(content, Scene):
                path = pictures / f"{name}.jpg"
                scene_picture(content, rng).save(path, quality=QUALITY)
            else:
                path = pictures / name
                path.mkdir()
                for index, picture in enumerate(clip_pictures(content, rng)):
                    picture.save(path / f"{index:03}.jpg", quality=QUALITY)
            sources.append(Source(name, path))
        kind: Kind = "grid" if isinstance(next(iter(shown.values())), Scene) else "frames"
        report = extract(sources, load(ENCODER), kind, root / folder, seconds=FRAME_SECONDS)
        if report.faults:
            raise UsageError(report.faults[0])


def picture_folder(folder: str) -> str:
    """Return where the pictures of a feature folder are, both below the root.

    >>> picture_folder("COCO/clip_features/data_clip_RN101_att")
    'COCO/images'
    >>> picture_folder("video/vis_features/tv/clip-vit")
    'video/frames/tv'
    """
    parts = folder.split("/")
    return f"video/frames/{parts[2]}" if parts[0] == "video" else f"{parts[0]}/images"


def _size(shown: dict[str, Scene | Clip]) -> int:
    return sum(content.frames if isinstance(content, Clip) else 1 for content in shown.values())


def _run(shares: list[list[str]], root: Path, seed: int) -> None:
    """Write the folders of each share in a process of its own, with one thread."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    package = str(Path(__file__).parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [package, env.get("PYTHONPATH")]))
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.mini.picture_files", str(root), str(seed), *share],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    try:
        for process in processes:
            message = process.communicate()[1]
            if process.returncode:
                raise OSError(message.strip().splitlines()[-1] if message.strip() else f"exit {process.returncode}")
    finally:
        for process in processes:
            with suppress(OSError):
                process.kill()
            process.wait()


def main(words: list[str]) -> None:
    """Write the pictures and features of some folders of a root whose annotations another process writes."""
    from bench.mini.write import write_annotations

    root, seed, folders = Path(words[0]), int(words[1]), words[2:]
    with tempfile.TemporaryDirectory() as scratch:
        pictures = PictureFiles(Path(scratch), seed)
        write_annotations(Path(scratch), pictures, seed)
    for folder in folders:
        pictures.write_folder(folder, root)


if __name__ == "__main__":
    main(sys.argv[1:])
