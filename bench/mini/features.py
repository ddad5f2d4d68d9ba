"""The features of the miniature camera: noisy and entangled codes of scenes and frames.

The clean code of a cell (or frame) is the sum of one random vector for each of its attributes. Every image or clip is
recorded under one of several *lightings*: the lighting multiplies the code by its own random matrix and adds its own
vector (the colour cast), a saturating non-linearity follows, and noise is added. The best linear map reads colour,
shape and cell of a thing all correctly about 85 times in 100 (a test measures it). The colour cast, which shows what
the lighting is, helps a non-linear reader only.
"""

import numpy as np

from bench.mini.world import ACTIONS, ACTORS, CELLS, COLOURS, FOODS, SHAPES, VERBS, Clip, Scene
from bench.mini.world import FEATURE_COLUMNS as DIM


class Camera:
    """Turns scenes and clips into features.

    Codes, mixing matrices and colour casts are drawn once, from the seed of the world.

    Args:
        seed: seed of the camera and of its noise.
        lightings: number of lightings.
        noise: standard deviation of the noise added to every feature (that of a feature is about 0.6).
        shared: share of a mixing matrix's variance that all lightings have in common, 0 to 1. It is what a linear map
            can read.
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
        per_lighting = optics.normal(size=(lightings, DIM, DIM))
        self._mix = np.sqrt(shared) * common + np.sqrt(1 - shared) * per_lighting
        self._cast = optics.normal(size=(lightings, DIM))
        self._noise = noise
        self._random = np.random.default_rng([seed, 2])

    def scene(self, scene: Scene) -> np.ndarray:
        """Return grid features ``(9, 32)``, one row for each cell.

        The last code of colour and the last of shape stand for an empty cell.
        """
        rows = []
        for cell in range(len(CELLS)):
            thing = scene.at(cell)
            colour, shape = (thing.colour, thing.shape) if thing else (-1, -1)
            rows.append(self._codes["colour"][colour] + self._codes["shape"][shape] + self._codes["cell"][cell])
        return self._record(np.stack(rows))

    def clip(self, clip: Clip) -> np.ndarray:
        """Return frame features ``(frames, 32)``."""
        who, what = ("actor", "action") if clip.kind == "tv" else ("food", "verb")
        rows = []
        for frame in range(clip.frames):
            index = clip.event_at(frame)
            event = clip.events[index]
            rows.append(self._codes[who][event.who] + self._codes[what][event.what] + self._codes["order"][index])
        return self._record(np.stack(rows))

    def _record(self, codes: np.ndarray) -> np.ndarray:
        """Return the features ``(n, 32)`` of clean codes ``(n, 32)`` under a lighting drawn at random."""
        lighting = self._random.integers(len(self._mix))
        features = np.tanh(codes @ self._mix[lighting] + self._cast[lighting])
        return features + self._noise * self._random.normal(size=features.shape)
