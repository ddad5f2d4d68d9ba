"""What the miniature camera sees: noisy, entangled features of scenes and frames.

A cell (or frame) has a clean code, the sum of one random vector per attribute value. What is recorded is one of several
*lightings* of it: each image has a lighting, each lighting mixes the code by its own random matrix and leaves its own
colour cast, everything passes a saturating non-linearity, and noise is added. The best linear map reads colour, shape
and cell of a thing all rightly about 85 times in 100 (a test measures it): the cast, which tells the lighting, helps
only a reader that is not linear.
"""

import numpy as np

from bench.mini.world import ACTIONS, ACTORS, CELLS, COLOURS, FOODS, SHAPES, VERBS, Clip, Scene
from bench.mini.world import FEATURE_COLUMNS as DIM


class Camera:
    """Random but fixed optics, drawn from the seed of the world.

    Args:
        seed: seed of the optics and of the noise.
        lightings: number of different mixings.
        noise: standard deviation of what is added to every feature (whose own is about 0.6).
        shared: part of a mixing that all lightings have in common, 0 to 1: the part that a linear map can read.
    """

    def __init__(self, seed: int, *, lightings: int = 2, noise: float = 0.1, shared: float = 0.5) -> None:
        optics = np.random.default_rng([seed, 1])
        self._codes = {
            name: optics.normal(size=(size, DIM)) / np.sqrt(DIM)
            for name, size in (
                ("colour", len(COLOURS) + 1),
                ("shape", len(SHAPES) + 1),
                ("cell", len(CELLS)),
                ("actor", len(ACTORS)),
                ("action", len(ACTIONS)),
                ("food", len(FOODS)),
                ("verb", len(VERBS)),
                ("order", 2),
            )
        }
        common = optics.normal(size=(DIM, DIM))
        own = optics.normal(size=(lightings, DIM, DIM))
        self._mix = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        self._cast = optics.normal(size=(lightings, DIM))
        self._noise = noise
        self._random = np.random.default_rng([seed, 2])

    def scene(self, scene: Scene) -> np.ndarray:
        """Return grid features ``(9, 32)``; an empty cell shows the last colour and shape code."""
        rows = []
        for cell in range(len(CELLS)):
            thing = scene.at(cell)
            colour, shape = (thing.colour, thing.shape) if thing else (-1, -1)
            rows.append(self._codes["colour"][colour] + self._codes["shape"][shape] + self._codes["cell"][cell])
        return self._take(np.stack(rows))

    def clip(self, clip: Clip) -> np.ndarray:
        """Return frame features ``(frames, 32)``."""
        who, what = ("actor", "action") if clip.kind == "tv" else ("food", "verb")
        rows = []
        for frame in range(clip.frames):
            shown = clip.event_at(frame)
            event = clip.events[shown]
            rows.append(self._codes[who][event.who] + self._codes[what][event.what] + self._codes["order"][shown])
        return self._take(np.stack(rows))

    def _take(self, codes: np.ndarray) -> np.ndarray:
        lighting = self._random.integers(len(self._mix))
        seen = np.tanh(codes @ self._mix[lighting] + self._cast[lighting])
        return seen + self._noise * self._random.normal(size=seen.shape)
