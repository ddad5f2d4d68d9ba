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


@dataclass(frozen=True)
class Corpus:
    """The told world: its tasks, their examples, and the phrases behind every example."""

    narrator: Narrator
    examples: dict[str, list[tasks.Example]]

    @classmethod
    def tell(cls, seed: int, times: int, split: str = "train") -> "Corpus":
        """Write a world in the official annotation formats, without features, and read it with the official readers."""
        with tempfile.TemporaryDirectory() as folder:
            narrator = Narrator(Path(folder))
            write(narrator.root, seed, witness=narrator, times=times)
            examples = {name: tasks.get(name).read(narrator.root, split) for name in tasks.names()}
        return cls(narrator, examples)

    def description(self, example: tasks.Example) -> str:
        """Return the phrases of an example in words, without empty cells and with repeated frames said once."""
        said = [p for phrases in self.narrator.told(example) for p in phrases if "empty" not in p and p != "nothing"]
        return " ; ".join(dict.fromkeys(said))

    def sentences(self) -> list[str]:
        """Return every sentence: sources with prompt, targets, descriptions."""
        found = []
        for name, examples in self.examples.items():
            for example in examples:
                found.append(f"{tasks.get(name).source(example, True)} {self.description(example)}")
                found.extend(answer for answer, _ in example.answers)
        return [*found, "true", "false", *(f" {w}" for w in ("first", "second", "empty", "nothing"))]


def pretrain(
    name: str,
    out: Path,
    *,
    steps: int = 6000,
    seed: int = 0,
    progress: Callable[[dict[str, float]], None] = lambda point: None,
) -> dict[str, Any]:
    """Train tokeniser and backbone ``name`` on text only and write them to ``out`` in ``save_pretrained`` layout.

    Args:
        name: ``mini-bart`` or ``mini-t5``.
        out: folder that receives config.json, model.safetensors, the tokeniser and training_log.json.
        steps: updates of 64 examples.
        seed: of initial weights, batches and noise.
        progress: called every 50 updates with step, loss and seconds.

    Returns:
        The training log: seed, steps, curve, and the accuracy on held-out descriptions per task, in %.
    """
    begun = time.monotonic()
    torch.manual_seed(seed)
    rng = Random(seed)
    corpus = Corpus.tell(WORLD_SEED + seed, CORPUS)
    tokenizer = TRAINERS[name](rng.sample(corpus.sentences(), 30_000))
    tokenizer.save_pretrained(out)
    model = _fresh(name, tokenizer)
    text = backbones.text.Text.of(tokenizer, model.family)
    prepared = _prepare(corpus, text)
    optimiser = optim.build(model, "adamw", PEAK_RATE, DECAY)
    curve: list[dict[str, float]] = []
    recent: list[float] = []
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * optim.rate(step, steps, WARMUP)
        loss = _loss(model, corpus, prepared, text, rng)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if (step + 1) % 50 == 0:
            curve.append({"step": step + 1, "loss": round(float(np.mean(recent)), 4), "seconds": round(time.monotonic() - begun, 1)})
            recent.clear()
            progress(curve[-1])
    held_out = examine(model, text, seed)
    model.lm.save_pretrained(out)
    log = {"backbone": name, "seed": seed, "steps": steps, "held_out_percent": held_out, "curve": curve}
    log["parameters"] = sum(p.numel() for p in model.lm.parameters())
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    return log


def _fresh(name: str, tokenizer: Any) -> backbones.VLModel:
    """Build an untrained backbone whose visual embedding reads phrases."""
    from transformers import BartConfig, T5Config

    common = {"vocab_size": len(tokenizer), "dropout_rate": 0.0, "tie_word_embeddings": True}
    if name == "mini-bart":
        common |= {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "forced_eos_token_id": None}
        config: Any = BartConfig(**SHAPES[name], **common, bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2)
    else:
        config = T5Config(**SHAPES[name], **common, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    model = backbones.build(config, feat_dim=1)
    model.visual_embedding = PhraseEmbedding(model.lm.get_input_embeddings())
    return model


def _prepare(corpus: Corpus, text: Any) -> dict[str, Prepared]:
    bags = Bags(corpus.narrator, text.pieces)
    return {n: Prepared(tasks.get(n), e, text, bags, prefix=True) for n, e in corpus.examples.items()}


def _loss(model: backbones.VLModel, corpus: Corpus, prepared: dict[str, Prepared], text: Any, rng: Random) -> Tensor:
    """Draw a batch of one of the three kinds and return its loss."""
    name = rng.choices(list(SHARES), list(SHARES.values()))[0]
    data = prepared[name]
    chosen = rng.sample(range(len(data)), BATCH)
    kind = rng.random()
    if kind < PACKED:
        batch = data.collate(chosen, draw=rng.randrange(1 << 30))
        return model(batch.input_ids, batch.vis_feats, labels=batch.labels, task=name).loss
    examples = [data.examples[i] for i in chosen]
    described = [corpus.description(e) for e in examples]
    if kind < PACKED + DENOISING:
        pairs = [(_mask(d, text.mask, rng), d) for d in described]
    else:
        sources = [tasks.get(name).source(e, True) for e in examples]
        targets = [rng.choices([a for a, _ in e.answers], [s for _, s in e.answers])[0] for e in examples]
        pairs = [(f"{s} {d}", t) for s, d, t in zip(sources, described, targets, strict=True)]
    inputs = _pad([text.encode(s, None) for s, _ in pairs], text.pad)
    labels = _pad([text.encode(t, None) for _, t in pairs], -100)
    return model.lm(input_ids=inputs, attention_mask=(inputs != text.pad).long(), labels=labels).loss


def _mask(sentence: str, mask: str, rng: Random) -> str:
    """Mask about a third of the words."""
    return " ".join(mask if rng.random() < 0.3 else word for word in sentence.split())


def _pad(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


@torch.inference_mode()
def examine(model: backbones.VLModel, text: Any, seed: int, limit: int = 200) -> dict[str, float]:
    """Return the share (%) of held-out described examples answered exactly, per task, from phrase tokens."""
    model.eval()
    corpus = Corpus.tell(WORLD_SEED + seed + 1, 1)
    prepared = _prepare(corpus, text)
    found = {}
    for name, data in prepared.items():
        batch = data.collate(list(range(min(limit, len(data)))))
        ids = model.generate(batch.input_ids, batch.vis_feats, task=name, num_beams=1, max_length=24)
        right = [
            text.decode(row) in {a for a, s in data.examples[i].answers if s > 0.5} for i, row in zip(batch.ids, ids.tolist(), strict=True)
        ]
        found[name] = round(100 * float(np.mean(right)), 1)
    return found
