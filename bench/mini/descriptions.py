"""What the scenes and clips of a miniature data root show, for readers who want to see what a model was asked about."""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.files import parse_json, read_bytes
from bench.mini import write
from bench.mini.world import COLOURS, SHAPES, VERSION, Clip, Scene

Description = dict[str, Any]


class _Descriptions:
    """A recorder that keeps what scenes and clips show, by the path of the feature file below the root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.by_file: dict[str, Description] = {}

    def scene(self, file: Path, scene: Scene) -> None:
        """Keep the things of a scene with their cells, 0 to 8 row by row."""
        things = [{"colour": COLOURS[t.colour], "shape": SHAPES[t.shape], "cell": t.cell} for t in scene.things]
        self.by_file[file.relative_to(self._root).as_posix()] = {"things": things}

    def clip(self, file: Path, clip: Clip) -> None:
        """Keep the events of a clip with their seconds, and its place."""
        events = [
            {"words": " ".join(clip.words(index)), "seconds": list(clip.span(index))}
            for index in range(len(clip.events))
        ]
        self.by_file[file.relative_to(self._root).as_posix()] = {"events": events, "place": clip.place_word}


def descriptions(root: Path) -> dict[str, Description]:
    """Return what every feature file of a root shows; empty where this version does not generate such roots."""
    try:
        facts = parse_json(read_bytes(root / "mini.json"))
        is_same = facts["version"] == VERSION and facts["sizes"] == write.SIZES
        return _generated(int(facts["seed"])) if is_same else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


@lru_cache(maxsize=2)
def _generated(seed: int) -> dict[str, Description]:
    """Generate the world of a seed again, which takes half a second without its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = _Descriptions(Path(folder))
        write.write_annotations(Path(folder), recorder, seed)
    return recorder.by_file
