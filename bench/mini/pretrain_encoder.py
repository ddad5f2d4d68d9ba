"""Pretraining the encoder of the miniature suite: it restores drawings from pictures of them, and knows no words.

A picture has light from one side, a cast of colour and noise; the target is the drawing without them. Two decoders
restore it, one from the features of the nine places and one from the embedding of the whole picture, so that both carry
what is to be seen. Scenes and clips are those of another seed than any of the benchmark.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.encoders.mini import CHANNELS, PREPROCESSING, MiniatureEncoder
from bench.errors import UsageError
from bench.mini.pictures import Light, clip_drawings, scene_drawing
from bench.mini.world import FEATURE_COLUMNS, SIDE, draw_clip, draw_scene

WORLD_SEED = 1_000_007  # not the seed of any benchmark world
STEPS, BATCH, PEAK_RATE, WEIGHT_DECAY = 2000, 64, 2e-3, 1e-4
WARM_UP_STEPS = 100
KEPT_BATCHES = 200  # that are drawn at the beginning; one is drawn anew every third step
REDRAWN_EVERY = 3
EDGE_WEIGHT = 2.0  # of the differences between neighbouring pixels: outlines tell shapes apart, and are few pixels
HELD_OUT = 20  # batches of another seed


class Decoder(nn.Module):
    """Restores a drawing of 48 x 48 pixels from a grid of 3 x 3 places.

    Args:
        inputs: channels of the grid.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, 96, 1)]
        for before, after in ((96, 64), (64, 48), (48, 32), (32, 3)):
            layers += [nn.GELU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, grid: Tensor) -> Tensor:
        """Return ``(b, 3, 48, 48)`` of ``(b, inputs, 3, 3)``."""
        return self.layers(grid)


class Autoencoder(nn.Module):
    """The encoder with a decoder for each kind of feature."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MiniatureEncoder()
        self.of_places = Decoder(FEATURE_COLUMNS)
        self.spread = nn.Linear(FEATURE_COLUMNS, CHANNELS[-1] * SIDE**2)
        self.of_picture = Decoder(CHANNELS[-1])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the drawing restored from the grid and from the embedding, both ``(b, 3, 48, 48)``."""
        encoder = self.encoder
        states = encoder.stages(pixels)  # once for both
        grid = encoder.grid_of(states).transpose(1, 2)
        embedding = self.spread(encoder.embedding_of(states))
        return (
            self.of_places(grid.unflatten(2, (SIDE, SIDE))),
            self.of_picture(embedding.unflatten(1, (-1, SIDE, SIDE))),
        )


def draw_batch(rng: Random) -> tuple[Tensor, Tensor]:
    """Draw pictures ``(b, 3, 96, 96)`` and the drawings that they show, ``(b, 3, 48, 48)``, from -1 to 1."""
    pictures, drawings = [], []
    for _ in range(BATCH):
        if rng.random() < 0.5:
            drawing = scene_drawing(draw_scene(rng), rng)
        else:
            drawing = rng.choice(clip_drawings(draw_clip(rng, rng.choice(("tv", "how2", "yc2"))), rng))
        pictures.append(PREPROCESSING(Light(rng).photograph(drawing, rng)))
        drawings.append(_scaled(drawing.reduce(2)))
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(drawings))


def _scaled(drawing: Image.Image) -> np.ndarray:
    return np.asarray(drawing, np.float32).transpose(2, 0, 1) / np.float32(127.5) - 1


def restoration_error(restored: Tensor, drawing: Tensor) -> Tensor:
    """Return the mean squared error of pixels, plus that of the differences between neighbours."""
    error = restored - drawing
    edges = error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()
    return error.square().mean() + EDGE_WEIGHT * edges


def held_out_error(model: Autoencoder) -> float:
    """Return the mean error of both restorations on drawings of another seed."""
    rng = Random(WORLD_SEED + 1)
    with torch.inference_mode():
        batches = [draw_batch(rng) for _ in range(HELD_OUT)]
        errors = [restoration_error(r, drawing).item() for pixels, drawing in batches for r in model(pixels)]
    return sum(errors) / len(errors)


def pretrain(
    out: Path, *, steps: int = STEPS, seed: int = 0, progress: Callable[[dict[str, Any]], None] = lambda entry: None
) -> dict[str, Any]:
    """Pretrain the encoder and write ``model.safetensors`` and ``training_log.json`` to a new folder.

    Args:
        out: the folder.
        steps: updates.
        seed: of the weights and of the order of the pictures.
        progress: called with ``step``, ``loss`` and ``seconds`` now and then.

    Returns:
        The log.

    Raises:
        UsageError: the folder is there already.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another folder with --out")
    begun = time.monotonic()
    torch.manual_seed(seed)
    rng = Random(f"{WORLD_SEED}/{seed}")
    model = Autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    batches = [draw_batch(rng) for _ in range(min(KEPT_BATCHES, steps))]
    curve: list[dict[str, Any]] = []
    losses: list[float] = []
    for step in range(1, steps + 1):
        rate = PEAK_RATE * min(1, step / WARM_UP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % REDRAWN_EVERY == 0:
            batches[rng.randrange(len(batches))] = draw_batch(rng)
        pixels, drawing = rng.choice(batches)
        loss = torch.stack([restoration_error(restored, drawing) for restored in model(pixels)]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 200 == 0 or step == steps:
            entry = {"step": step, "loss": round(sum(losses) / len(losses), 5)}
            curve.append(entry)
            progress(entry | {"seconds": time.monotonic() - begun})
            losses.clear()
    log = {
        "what": "the encoder of the miniature suite, pretrained on synthetic pictures to restore drawings",
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in model.encoder.parameters()),
        "held_out_error": round(held_out_error(model.eval()), 5),
        "seconds": round(time.monotonic() - begun),
        "curve": curve,
    }
    out.mkdir(parents=True)
    save_file(
        {name: value.contiguous() for name, value in model.encoder.state_dict().items()}, out / "model.safetensors"
    )
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    return log
