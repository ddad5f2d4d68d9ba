"""Runs of a tiny size for tests that watch them."""

from bench.config import Run, resolve

SETTINGS = {
    "steps": 8,
    "batch_size": 4,
    "checkpoint_every": 3,
    "beams": 2,
    "n_boxes": 9,
    "n_frames": 8,
    "recipe.dropout": 0.1,
}


def make(suite: str = "video-text", method: str = "vl-pet-large", **settings: object) -> Run:
    return resolve("mini-bart", method, suite, settings={**SETTINGS, **settings})
