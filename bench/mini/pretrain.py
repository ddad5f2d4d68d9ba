"""Pretrain the miniature backbones on text only, and package them.

The corpus is the miniature world told in words: the tasks' own sentences, but where the benchmark shows a scene or a clip, the corpus *describes* it.
Half of the time the description is ordinary text after the question; half of the time each phrase of it ("red square top left") is one token, the
normalised sum of its word embeddings, in the place where visual tokens will stand. A further part is denoising: restore a description with words
masked. No feature of the miniature camera is ever seen, so tuning has to learn to see.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import backbones, losses, optim, tasks
from bench.data.batches import Prepared
from bench.mini import language as say
from bench.mini.tokens import TRAINERS
from bench.mini.world import MAX_FRAMES, Clip, Scene
from bench.mini.write import write

WORLD_SEED = 1_000_003  # not the seed of any benchmark world: the described scenes are other ones
CORPUS = 20  # times the benchmark's training splits
BATCH, PEAK_RATE, WARMUP, DECAY = 64, 2e-3, 0.05, 0.01
PHRASE_NOISE = 0.25  # added to phrase tokens, whose elements have a standard deviation of 1
DENOISING, PACKED = 0.1, 0.6  # shares of updates; the rest is plain text
#: pairs need the most practice, captions the least
SHARES = {"vqa": 2, "gqa": 3, "nlvr": 4, "caption": 1, "tvqa": 2, "how2qa": 1.5, "tvc": 1, "yc2c": 1}

SHAPES: dict[str, dict[str, Any]] = {
    "mini-bart": {
        "d_model": 96,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 384,
        "decoder_ffn_dim": 384,
        "max_position_embeddings": 160,
        "scale_embedding": False,
    },
    "mini-t5": {
        "d_model": 96,
        "d_kv": 24,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "d_ff": 384,
        "feed_forward_proj": "relu",
    },
}


@dataclass
class Narrator:
    """The witness that describes instead of filming: phrases by feature file."""

    root: Path
    phrases: dict[str, list[str]] = field(default_factory=dict)

    def scene(self, file: Path, scene: Scene) -> None:
        """Keep nine phrases, one for each cell."""
        self.phrases[str(file.relative_to(self.root))] = say.phrases(scene)

    def clip(self, file: Path, clip: Clip) -> None:
        """Keep one phrase for each frame, padded as the loader pads features."""
        self.phrases[str(file.relative_to(self.root))] = say.clip_phrases(clip, MAX_FRAMES)

    def told(self, example: tasks.Example) -> list[list[str]]:
        """Return the phrases of an example's image, clip, or two images (whose phrases then say which image)."""
        shown = [self.phrases[file] for file in example.visual]
        if len(shown) == 1:
            return shown
        return [[f"{word} {phrase}" for phrase in phrases] for word, phrases in zip(("first", "second"), shown, strict=True)]


@dataclass(frozen=True)
class Bags:
    """A store in the manner of FeatureStore whose "features" are the word pieces of each phrase, -1 where there are fewer."""

    narrator: Narrator
    encode: Callable[[str], list[int]]
    width: int = 8
    memory: dict[str, list[int]] = field(default_factory=dict)

    def load(self, example: tasks.Example) -> np.ndarray:
        """Return piece ids ``(V, width)`` or ``(2, V, width)`` as float32."""
        told = [[self._bag(phrase) for phrase in phrases] for phrases in self.narrator.told(example)]
        bags = np.asarray(told, dtype=np.float32)
        return bags if len(told) == 2 else bags[0]

    def _bag(self, phrase: str) -> list[int]:
        if phrase not in self.memory:
            pieces = self.encode(f" {phrase}")
            self.memory[phrase] = pieces + [-1] * (self.width - len(pieces))
        return self.memory[phrase]


class PhraseEmbedding(nn.Module):
    """Stands where the visual projector will stand: a phrase token is the normalised sum of its word embeddings, plus noise."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words = words

    def forward(self, bags: Tensor, *positions: Tensor | None) -> Tensor:
        """Embed ``(b, v, width)`` piece ids as ``(b, v, d)``; where a token stands is said by its words, so positions are not used."""
        ids = bags.long()
        total = (self.words(ids.clamp(min=0)) * (ids >= 0).unsqueeze(-1)).sum(-2)
        normal = nn.functional.layer_norm(total, total.shape[-1:])
        return normal + PHRASE_NOISE * torch.randn_like(normal) if self.training else normal
