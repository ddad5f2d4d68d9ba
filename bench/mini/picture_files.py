"""The pictures of a miniature root as files, and their features: extracted as those of any pictures are.

Pictures stand beside the features, as in the official layout: ``COCO/images/NAME.jpg`` for
``COCO/clip_features/.../NAME.h5``, and the frames of a clip in ``video/frames/tv/NAME/`` for
``video/vis_features/tv/clip-vit/NAME.npz``.
"""

import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from bench.data.extraction import extract
from bench.data.feature_files import Kind
from bench.data.picture_index import picture_folder
from bench.data.pictures import FRAME_SECONDS, Source
from bench.encoders import load
from bench.errors import UsageError
from bench.mini.descriptions import Shown, read_shown, write_shown
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
        self._shown = Shown({}, {})

    def scene(self, file: Path, scene: Scene) -> None:
        """Keep a scene."""
        self._shown.scenes[file.relative_to(self._root).as_posix()] = scene

    def clip(self, file: Path, clip: Clip) -> None:
        """Keep a clip."""
        self._shown.clips[file.relative_to(self._root).as_posix()] = clip

    def write(self) -> None:
        """Write what is shown, all pictures and the features; of a large world with a process for each core, which
        takes half a minute."""
        write_shown(self._root, self._shown)
        sizes: Counter[str] = Counter()
        for file in self._shown.scenes:
            sizes[_folder(file)] += 1
        for file, clip in self._shown.clips.items():
            sizes[_folder(file)] += clip.frames
        jobs = min(os.cpu_count() or 1, len(sizes)) if sizes.total() > MANY else 1
        shares: list[list[str]] = [[] for _ in range(jobs)]
        for folder, _ in sizes.most_common():
            min(shares, key=lambda share: sum(sizes[f] for f in share)).append(folder)
        if jobs == 1:
            write_folders(self._root, self._seed, shares[0])
        else:
            _write_in_processes(self._root, self._seed, shares)


def write_folders(root: Path, seed: int, folders: list[str]) -> None:
    """Write the pictures of some feature folders, and the features, of a root whose annotations are there."""
    shown = read_shown(root)
    encoder = load(ENCODER)
    for folder in folders:
        pictures = root / picture_folder(folder)
        pictures.mkdir(parents=True)
        scenes = [file for file in shown.scenes if _folder(file) == folder]
        clips = [file for file in shown.clips if _folder(file) == folder]
        sources = [Source(Path(file).stem, _draw(file, shown, pictures, seed)) for file in sorted(scenes or clips)]
        kind: Kind = "grid" if scenes else "frames"
        report = extract(sources, encoder, kind, root / folder, seconds=FRAME_SECONDS)
        if report.faults:
            raise UsageError(report.faults[0])


def _draw(file: str, shown: Shown, pictures: Path, seed: int) -> Path:
    """Write the picture of a scene or the frames of a clip, and return the file or folder."""
    rng = Random(f"{seed}/{file}")
    name = Path(file).stem
    if file in shown.scenes:
        path = pictures / f"{name}.jpg"
        scene_picture(shown.scenes[file], rng).save(path, quality=QUALITY)
        return path
    path = pictures / name
    path.mkdir()
    for index, picture in enumerate(clip_pictures(shown.clips[file], rng)):
        picture.save(path / f"{index:03}.jpg", quality=QUALITY)
    return path


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _write_in_processes(root: Path, seed: int, shares: list[list[str]]) -> None:
    """Write the folders of each share by a command with one thread, which works from scripts and notebooks too."""
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


if __name__ == "__main__":
    write_folders(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
