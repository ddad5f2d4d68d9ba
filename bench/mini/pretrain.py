"""Pretrain the miniature backbones on text only, and package them.

The corpus is the miniature world told in words: the tasks' own sentences, but where the benchmark shows a scene or a
clip, the corpus *describes* it. In most lessons each phrase of the description ("red square northwest") is one token,
the normalised sum of its word embeddings plus noise, in the place where visual tokens will stand; in one of ten the
description is ordinary text after the question; in one of twenty it is to be restored with words masked. No feature of
the miniature camera is ever seen, so tuning has to learn to see.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging

from bench import backbones, optim, tasks
from bench.data.batches import TokenizedSplit
from bench.mini import language as say
from bench.mini.tokenizers import TRAINERS
from bench.mini.world import MAX_FRAMES, Clip, Scene
from bench.mini.write import write
from methods.core.sites import Sites

WORLD_SEED = 1_000_003  # not the seed of any benchmark world: the described scenes are other ones
CORPUS = 10  # times the benchmark's training splits
STEPS, LESSONS_PER_STEP, BATCH = 4500, 3, 32
PEAK_RATE = 1e-3
WARMUP, DECAY, CLIP = 0.05, 0.01, 1.0
EXAMINE_EVERY = 500
PHRASE_NOISE = 0.15  # added to phrase tokens, whose elements have a standard deviation of 1
PLAIN, DENOISING = 0.1, 0.05  # shares of lessons given as ordinary text; the rest are phrase tokens
#: how often each lesson is drawn: the tasks, and to describe what is seen, which they build on
SHARES = {"vqa": 2, "gqa": 3, "nlvr": 4, "caption": 1, "tvqa": 2.5, "how2qa": 2, "tvc": 1, "yc2c": 0.5}
SHARES |= {"describe image": 2, "describe pair": 1, "describe clip": 1.5}

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
        return [
            [f"{word} {phrase}" for phrase in phrases] for word, phrases in zip(("first", "second"), shown, strict=True)
        ]


@dataclass(frozen=True)
class Bags:
    """A store in the manner of FeatureStore whose "features" are the word pieces of each phrase, -1 where there are
    fewer."""

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
    """Stands where the visual projector will stand: a phrase token is the normalised sum of its word embeddings, plus
    noise."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words = words

    def forward(self, bags: Tensor, *positions: Tensor | None) -> Tensor:
        """Embed ``(b, v, width)`` or ``(b, 2, v, width)`` piece ids as ``(b, n, d)``; where a token stands is said by
        its words."""
        ids = bags.long() if bags.dim() == 3 else bags.long().flatten(1, 2)
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

    def lessons(self) -> dict[str, tuple[tasks.Task, list[tasks.Example]]]:
        """Return what is learnt: each task, and to describe an image, a pair and a clip."""
        found = {name: (tasks.get(name), examples) for name, examples in self.examples.items()}
        for name, source in (("image", "vqa"), ("pair", "nlvr"), ("clip", "tvqa")):
            task = dataclasses.replace(tasks.get(source), prompt="describe: ", prompt_at="front", target_limit=None)
            told = [_with(e, "", self.description(e)) for e in self.examples[source]]
            found[f"describe {name}"] = (task, told)
        return found

    def sentences(self) -> list[str]:
        """Return every sentence of the lessons: sources with prompt, descriptions, targets."""
        found = []
        for task, examples in self.lessons().values():
            for example in examples[:5000]:
                found.append(f"{task.source(example, True)} {self.description(example)}")
                found.extend(answer for answer, _ in example.answers)
        return [*found, *(f" {word}" for word in ("first", "second", "empty", "nothing"))]


def _with(example: tasks.Example, text: str, answer: str) -> tasks.Example:
    return dataclasses.replace(example, text=text, answers=((answer, 1.0),))


def pretrain(
    name: str,
    out: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[dict[str, Any]], None] = lambda point: None,
) -> dict[str, Any]:
    """Train tokeniser and backbone ``name`` on text only and write them to ``out`` in ``save_pretrained`` layout.

    Args:
        name: ``mini-bart`` or ``mini-t5``.
        out: folder that receives config.json, model.safetensors, the tokeniser and training_log.json.
        steps: updates, each of three lessons of 32 examples.
        seed: of initial weights, batches and noise.
        progress: called every 100 updates with step, loss, seconds, and every 500 with the scores on held-out
            descriptions.

    Returns:
        The training log: seed, steps, curve, and the accuracy on held-out descriptions per task, in %.
    """
    begun = time.monotonic()
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    rng = Random(seed)
    corpus = Corpus.tell(WORLD_SEED + seed, CORPUS)
    tokenizer = TRAINERS[name](corpus.sentences())
    tokenizer.save_pretrained(out)
    model = _fresh(name, tokenizer)
    text = backbones.Tokenizer.wrap(tokenizer, backbones.family_of(model.lm.config))
    school = School(corpus, text)
    optimiser = optim.build(model, "adamw", PEAK_RATE, DECAY)
    exam = School(Corpus.tell(WORLD_SEED + seed + 1, 1), text)
    curve: list[dict[str, Any]] = []
    recent: list[float] = []
    for step in range(1, steps + 1):
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * optim.rate(step - 1, steps, WARMUP)
        loss = torch.stack([school.lesson(model, rng) for _ in range(LESSONS_PER_STEP)]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 100 == 0 or step == steps:
            point: dict[str, Any] = {"step": step, "loss": round(float(np.mean(recent)), 4)}
            if step % EXAMINE_EVERY == 0 or step == steps:
                point["held_out_percent"] = examine(model, exam)
            point["seconds"] = round(time.monotonic() - begun, 1)
            curve.append(point)
            recent.clear()
            progress(point)
    model.lm.save_pretrained(out)
    log = {
        "backbone": name,
        "seed": seed,
        "steps": steps,
        "held_out_percent": curve[-1]["held_out_percent"],
        "curve": curve,
    }
    log["parameters"] = sum(p.numel() for p in model.lm.parameters())
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    return log


def _fresh(name: str, tokenizer: Any) -> backbones.VLModel:
    """Build an untrained backbone whose visual embedding reads phrases."""
    from transformers import BartConfig, T5Config

    common: dict[str, Any] = {"vocab_size": len(tokenizer), "tie_word_embeddings": True}
    if name == "mini-bart":
        common |= {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "init_std": 0.1}
        common |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
        config: Any = BartConfig(**SHAPES[name], **common)
    else:
        common |= {"dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        config = T5Config(**SHAPES[name], **common)
    model = backbones.build(config, feat_dim=1)
    model.visual_embedding = PhraseEmbedding(model.lm.get_input_embeddings())
    _start_keys_as_queries(model.lm)
    return model


def _start_keys_as_queries(lm: Any) -> None:
    """Start every key projection of the encoder's self-attention and of cross-attention as a copy of its query
    projection, both scaled to the geometric mean of their standard deviations.

    Attention then begins by finding what resembles the query, which so small a model otherwise takes thousands of
    updates to discover.
    """
    sites = Sites(lm)
    for attention in ("enc.sa", "dec.xa"):
        for query, key in zip(sites.ports(f"{attention}.q"), sites.ports(f"{attention}.k"), strict=True):
            query_weight, key_weight = (cast(nn.Linear, port.module).weight for port in (query, key))
            with torch.no_grad():
                query_weight.mul_((key_weight.std() / query_weight.std()).sqrt())
                key_weight.copy_(query_weight)


class School:
    """The lessons, ready to be given."""

    def __init__(self, corpus: Corpus, text: Any) -> None:
        self.text = text
        self.corpus = corpus
        bags = Bags(corpus.narrator, text.encode_bare)
        self.lessons = {n: TokenizedSplit(t, e, text, bags, prefix=True) for n, (t, e) in corpus.lessons().items()}

    def lesson(self, model: Any, rng: Random) -> Tensor:
        """Draw a lesson and its form, and return the loss."""
        data = self.lessons[rng.choices(list(SHARES), list(SHARES.values()))[0]]
        chosen = rng.sample(range(len(data)), BATCH)
        form = rng.random()
        if form >= PLAIN + DENOISING:
            batch = data.collate(chosen, draw=rng.randrange(1 << 30))
            return model(batch.input_ids, batch.vis_feats, labels=batch.labels).loss
        examples = [data.examples[i] for i in chosen]
        described = [self.corpus.description(e) for e in examples]
        if form < DENOISING:
            mask = self.text.hf_tokenizer.mask_token or "<extra_id_0>"
            pairs = [(_mask(d, mask, rng), d) for d in described]
        else:
            pairs = [
                (f"{data.task.source(e, True)} {d}", max(e.answers, key=lambda a: a[1])[0])
                for e, d in zip(examples, described, strict=True)
            ]
        inputs = _pad([self.text.encode(s, None) for s, _ in pairs], self.text.pad_id)
        labels = _pad([self.text.encode(t, None) for _, t in pairs], -100)
        return model.lm(input_ids=inputs, attention_mask=(inputs != self.text.pad_id).long(), labels=labels).loss


def _mask(sentence: str, mask: str, rng: Random) -> str:
    """Mask about a third of the words."""
    return " ".join(mask if rng.random() < 0.3 else word for word in sentence.split())


def _pad(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


@torch.inference_mode()
def examine(model: backbones.VLModel, exam: School, limit: int = 200) -> dict[str, float]:
    """Return the share (%) of held-out examples of each task that the model answers exactly from phrase tokens."""
    model.eval()
    found = {}
    for name in tasks.names():
        data = exam.lessons[name]
        batch = data.collate(list(range(min(limit, len(data)))))
        ids = model.generate(batch.input_ids, batch.vis_feats, num_beams=1, max_length=24, forced_eos_token_id=None)
        said = [exam.text.decode(row) for row in ids.tolist()]
        best = [{answer for answer, score in data.examples[i].answers if score > 0.9} for i in batch.ids]
        found[name] = round(100 * float(np.mean([s in b for s, b in zip(said, best, strict=True)])), 1)
    return found
