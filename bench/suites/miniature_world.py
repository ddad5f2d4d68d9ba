"""The miniature of the two built-in suites: one synthetic world, written in the official formats of all eight tasks."""

from pathlib import Path

from bench import mini
from bench.mini.world import FEATURE_COLUMNS, VERSION
from bench.suites.suite import Miniature

#: modules of bench.mini, and the weights of the encoder
GENERATOR = (
    "world.py",
    "language.py",
    "pen.py",
    "clip_stage.py",
    "pictures.py",
    "picture_files.py",
    "write.py",
    "encoder/model.safetensors",
)


def _write(root: Path, seed: int) -> None:
    from bench.mini.write import write

    write(root, seed)


MINIATURE = Miniature(
    version=VERSION,
    write=_write,
    columns=FEATURE_COLUMNS,
    name="mini",
    sources=tuple(Path(mini.__file__).parent / name for name in GENERATOR),
)
