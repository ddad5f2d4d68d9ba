"""A suite of one task, with data of its own: recordings in which some frames are louder than others."""

import json
from pathlib import Path
from random import Random

from bench.suites import Features, Miniature, Suite

COLUMNS = 16
FRAMES = 6


def write(root: Path, seed: int) -> None:
    """Write 40 recordings to train on and 12 to validate on."""
    import numpy as np

    random, noise = Random(seed), np.random.default_rng(seed)
    features = root / "audio" / "features"
    features.mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 12)):
        records = []
        for index in range(count):
            name, loud = f"{split}{index}", [random.random() < 0.5 for _ in range(FRAMES)]
            frames = noise.normal(size=(FRAMES, COLUMNS)) + 3 * np.array(loud)[:, None]
            np.savez(features / f"{name}.npz", features=frames.astype(np.float16))
            records.append({"recording": name, "beats": sum(loud)})
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (root / "audio" / f"beats_{split}.jsonl").write_text(lines, encoding="utf-8")


SUITE = Suite(
    name="audio-text",
    label="Audio-text",
    official_tasks=("beats",),
    annotations=("audio/*.jsonl",),
    features=Features(kind="frames", columns=512),
    recipes={"mini": {"": {"n_frames": FRAMES, "n_boxes": FRAMES, "batch_size": 8}, "t5": {"batch_size": 4}}},
    miniature=Miniature(version=3, write=write, columns=COLUMNS),
)
