"""What the scenes and clips of a miniature data root show: a file in the root, and words for readers."""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from bench.files import write_bytes
from bench.mini.world import COLOURS, SHAPES, Clip, Scene

Description = dict[str, Any]
SHOWN = "shown.json"  # of a miniature root: what every feature file shows, by its path below the root


class Shown(msgspec.Struct):
    """The content of the file."""

    scenes: dict[str, Scene]
    clips: dict[str, Clip]


def write_shown(root: Path, shown: Shown) -> None:
    """Write what the images and clips of a root show."""
    content = {
        "scenes": {name: asdict(scene) for name, scene in shown.scenes.items()},
        "clips": {name: asdict(clip) for name, clip in shown.clips.items()},
    }
    write_bytes(root / SHOWN, msgspec.json.encode(content))


def read_shown(root: Path) -> Shown:
    """Read it again; OSError or ValueError where it is not there or damaged."""
    return msgspec.json.decode((root / SHOWN).read_bytes(), type=Shown)


def descriptions(root: Path) -> dict[str, Description]:
    """Return what every feature file of a root shows, for readers; empty where the root is not a miniature one."""
    try:
        return _descriptions(root, (root / SHOWN).stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=2)
def _descriptions(root: Path, changed: int) -> dict[str, Description]:
    shown = read_shown(root)
    return {name: _of_scene(scene) for name, scene in shown.scenes.items()} | {
        name: _of_clip(clip) for name, clip in shown.clips.items()
    }


def _of_scene(scene: Scene) -> Description:
    """Return the things of a scene with their cells, 0 to 8 row by row."""
    return {"things": [{"colour": COLOURS[t.colour], "shape": SHAPES[t.shape], "cell": t.cell} for t in scene.things]}


def _of_clip(clip: Clip) -> Description:
    """Return the events of a clip with their seconds, and its place."""
    events = [
        {"words": " ".join(clip.words(index)), "seconds": list(clip.span(index))} for index in range(len(clip.events))
    ]
    return {"events": events, "place": clip.place_word}
