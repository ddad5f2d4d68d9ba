"""Pretraining the miniature backbones on text only.

The corpus is the miniature world in words: the sentences of the tasks, but where the benchmark shows an image or a
clip, the corpus describes it. In most examples each phrase of the description ("red square northwest") is one token at
the place where visual tokens will be: the normalised sum of the phrase's word embeddings, plus noise. In one example of
ten the description is ordinary text behind the question, and in one of twenty the example is a description with masked
words to be restored. Features of pictures never occur, so that tuning has to learn to read them.
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

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging

from bench import backbones, optim, suites, tasks
from bench.data.batches import TokenizedSplit
from bench.mini import language
from bench.mini.tokenizers import TRAINERS
from bench.mini.world import MAX_FRAMES, Clip, Scene
from bench.mini.write import write_annotations
from methods.core.sites import Sites

WORLD_SEED = 1_000_003  # not the seed of any benchmark world, so that other scenes are described
CORPUS_TIMES = 10  # the training splits are this many times as large as those of the benchmark
STEPS, LESSONS_PER_STEP, BATCH = 4500, 3, 32
PEAK_RATE = 1e-3
WARMUP, WEIGHT_DECAY, CLIP_NORM = 0.05, 0.01, 1.0
EVALUATE_EVERY = 500
PHRASE_NOISE = 0.15  # standard deviation of what is added to phrase tokens, whose own is 1
#: shares of the examples that are given as ordinary text and as text with masked words; the others have phrase tokens
PLAIN_TEXT_SHARE, DENOISING_SHARE = 0.1, 0.05
#: how often each lesson is drawn: the tasks, and the descriptions of images and clips, on which the tasks build
LESSON_WEIGHTS = {"vqa": 2, "gqa": 3, "nlvr": 4, "caption": 1, "tvqa": 2.5, "how2qa": 2, "tvc": 1, "yc2c": 0.5}
LESSON_WEIGHTS |= {"describe image": 2, "describe pair": 1, "describe clip": 1.5}

#: name -> values of the HF configuration
SIZES: dict[str, dict[str, Any]] = {
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
class PhraseRecorder:
    """Takes the place of the pictures: records the phrases that describe a scene or clip under its feature file.

    Attributes:
        root: the data root that is being written.
        phrases: path of the feature file below the root -> phrases, one for each visual token.
    """

    root: Path
    phrases: dict[str, list[str]] = field(default_factory=dict)

    def scene(self, file: Path, scene: Scene) -> None:
        """Record nine phrases, one for each cell."""
        self.phrases[str(file.relative_to(self.root))] = language.phrases(scene)

    def clip(self, file: Path, clip: Clip) -> None:
        """Record one phrase for each frame, padded as the loader pads features."""
        self.phrases[str(file.relative_to(self.root))] = language.clip_phrases(clip, MAX_FRAMES)

    def phrases_of(self, example: tasks.Example) -> list[list[str]]:
        """Return the phrases of the example's image or clip, or of each of its two images.

        The phrases of two images begin with "first" and "second".
        """
        per_image = [self.phrases[file] for file in example.visual]
        if len(per_image) == 1:
            return per_image
        return [
            [f"{ordinal} {phrase}" for phrase in phrases]
            for ordinal, phrases in zip(("first", "second"), per_image, strict=True)
        ]


@dataclass(frozen=True)
class PhraseStore:
    """A feature store (:class:`bench.data.features.FeatureStore`) whose "features" are the token ids of phrases.

    Attributes:
        recorder: knows the phrases of every example.
        encode: text -> ids without special tokens.
        max_tokens: columns; shorter phrases are padded with -1.
        cache: ids of the phrases that have been encoded.
    """

    recorder: PhraseRecorder
    encode: Callable[[str], list[int]]
    max_tokens: int = 8
    cache: dict[str, list[int]] = field(default_factory=dict)

    def load(self, example: tasks.Example) -> np.ndarray:
        """Return token ids ``(v, max_tokens)``, or ``(2, v, max_tokens)`` of two images, as float32."""
        ids = [[self._padded_ids(phrase) for phrase in phrases] for phrases in self.recorder.phrases_of(example)]
        features = np.asarray(ids, dtype=np.float32)
        return features if len(ids) == 2 else features[0]

    def _padded_ids(self, phrase: str) -> list[int]:
        if phrase not in self.cache:
            ids = self.encode(f" {phrase}")
            self.cache[phrase] = ids + [-1] * (self.max_tokens - len(ids))
        return self.cache[phrase]


class PhraseEmbedding(nn.Module):
    """Takes the place of the visual projector: a phrase becomes the normalised sum of its word embeddings, plus
    noise in training."""

    def __init__(self, word_embedding: nn.Embedding) -> None:
        super().__init__()
        self.words = word_embedding

    def forward(self, phrase_ids: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Embed token ids ``(b, v, max_tokens)`` or ``(b, 2, v, max_tokens)``, padded with -1, as ``(b, n, d)``.

        ``boxes`` are ignored: the words of a phrase say where a thing is.
        """
        ids = phrase_ids.long() if phrase_ids.dim() == 3 else phrase_ids.long().flatten(1, 2)
        total = (self.words(ids.clamp(min=0)) * (ids >= 0).unsqueeze(-1)).sum(-2)
        tokens = nn.functional.layer_norm(total, total.shape[-1:])
        return tokens + PHRASE_NOISE * torch.randn_like(tokens) if self.training else tokens


@dataclass(frozen=True)
class Corpus:
    """A miniature world in words: the examples of all tasks, and the phrases that describe their images and clips."""

    recorder: PhraseRecorder
    examples: dict[str, list[tasks.Example]]

    @classmethod
    def generate(cls, seed: int, times: int, split: str = "train") -> "Corpus":
        """Write a world in the official annotation formats, without features, and read it with the official readers.

        Args:
            seed: seed of the world.
            times: factor by which the training splits are larger than those of the benchmark.
            split: the split of every task to read.
        """
        with tempfile.TemporaryDirectory() as folder:
            recorder = PhraseRecorder(Path(folder))
            write_annotations(recorder.root, recorder, seed, times)
            examples = {name: tasks.get(name).read(recorder.root, split) for name in suites.official_tasks()}
        return cls(recorder, examples)

    def description(self, example: tasks.Example) -> str:
        """Return the phrases of an example as one text, without empty cells and without repetitions."""
        phrases = [
            phrase
            for phrases in self.recorder.phrases_of(example)
            for phrase in phrases
            if "empty" not in phrase and phrase != "nothing"
        ]
        return " ; ".join(dict.fromkeys(phrases))

    def lessons(self) -> dict[str, tuple[tasks.Task, list[tasks.Example]]]:
        """Return all that the backbone learns, by name: the tasks, and the description of an image, a pair of images
        and a clip."""
        lessons = {name: (tasks.get(name), examples) for name, examples in self.examples.items()}
        for name, source in (("image", "vqa"), ("pair", "nlvr"), ("clip", "tvqa")):
            task = dataclasses.replace(tasks.get(source), prompt="describe: ", prompt_at="front", target_limit=None)
            examples = [
                msgspec.structs.replace(example, text="", answers=((self.description(example), 1.0),))
                for example in self.examples[source]
            ]
            lessons[f"describe {name}"] = (task, examples)
        return lessons

    def sentences(self) -> list[str]:
        """Return the sentences that a tokeniser is trained on: source texts with prompt, descriptions and targets."""
        sentences = []
        for task, examples in self.lessons().values():
            for example in examples[:5000]:
                sentences.append(f"{task.source(example, True)} {self.description(example)}")
                sentences.extend(answer for answer, _ in example.answers)
        return [*sentences, *(f" {word}" for word in ("first", "second", "empty", "nothing"))]


def pretrain(
    name: str,
    out: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[dict[str, Any]], None] = lambda point: None,
) -> dict[str, Any]:
    """Train the tokeniser and the backbone ``name`` and write them to a folder in ``save_pretrained`` layout.

    Args:
        name: ``mini-bart`` or ``mini-t5``.
        out: the folder that is written: config.json, model.safetensors, the tokeniser and training_log.json.
        steps: number of updates, each on three lessons of 32 examples.
        seed: seed of the corpus, initial weights, batches and noise.
        progress: called after every 100 updates with step, loss and seconds, and after every 500 also with the
            accuracy on held-out descriptions.

    Returns:
        The training log: seed, steps, training curve, and the accuracy in % on held-out descriptions for each task.
    """
    begun = time.monotonic()
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    rng = Random(seed)
    corpus = Corpus.generate(WORLD_SEED + seed, CORPUS_TIMES)
    hf_tokenizer = TRAINERS[name](corpus.sentences())
    hf_tokenizer.save_pretrained(out)  # before the official tokens are added, as in a published checkpoint
    model = _untrained_backbone(name, len(hf_tokenizer))
    tokenizer = backbones.Tokenizer.wrap(hf_tokenizer, backbones.family_of(model.lm.config))
    training = LessonSampler(corpus, tokenizer)
    optimiser = optim.build(model, "adamw", PEAK_RATE, WEIGHT_DECAY)
    held_out = LessonSampler(Corpus.generate(WORLD_SEED + seed + 1, 1), tokenizer)
    curve: list[dict[str, Any]] = []
    recent_losses: list[float] = []
    for step in range(1, steps + 1):
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * optim.rate(step - 1, steps, WARMUP)
        loss = torch.stack([training.draw_loss(model, rng) for _ in range(LESSONS_PER_STEP)]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        recent_losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            point: dict[str, Any] = {"step": step, "loss": round(float(np.mean(recent_losses)), 4)}
            if step % EVALUATE_EVERY == 0 or step == steps:
                point["held_out_percent"] = accuracy(model, held_out)
            point["seconds"] = round(time.monotonic() - begun, 1)
            curve.append(point)
            recent_losses.clear()
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


def _untrained_backbone(name: str, vocabulary: int) -> backbones.VLModel:
    """Build a backbone with initial weights, whose visual embedding reads phrases."""
    from transformers import BartConfig, T5Config

    common: dict[str, Any] = {"vocab_size": vocabulary, "tie_word_embeddings": True}
    if name == "mini-bart":
        common |= {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "init_std": 0.1}
        common |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
        config: Any = BartConfig(**SIZES[name], **common)
    else:
        common |= {"dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        config = T5Config(**SIZES[name], **common)
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


class LessonSampler:
    """Draws batches of the lessons of a corpus and computes their losses."""

    def __init__(self, corpus: Corpus, tokenizer: backbones.Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.corpus = corpus
        store = PhraseStore(corpus.recorder, tokenizer.encode_bare)
        self.lessons = {
            name: TokenizedSplit(task, examples, tokenizer, store, prefix=True)
            for name, (task, examples) in corpus.lessons().items()
        }

    def draw_loss(self, model: Any, rng: Random) -> Tensor:
        """Draw a lesson, a batch of it and the form in which it is given, and return the loss of the model."""
        lesson = self.lessons[rng.choices(list(LESSON_WEIGHTS), list(LESSON_WEIGHTS.values()))[0]]
        indices = rng.sample(range(len(lesson)), BATCH)
        form = rng.random()
        if form >= PLAIN_TEXT_SHARE + DENOISING_SHARE:
            batch = lesson.collate(indices, draw=rng.randrange(1 << 30))
            return model(batch.input_ids, batch.vis_feats, labels=batch.labels).loss
        examples = [lesson.examples[i] for i in indices]
        descriptions = [self.corpus.description(example) for example in examples]
        if form < DENOISING_SHARE:
            mask = self.tokenizer.hf_tokenizer.mask_token or "<extra_id_0>"
            pairs = [(_mask_words(description, mask, rng), description) for description in descriptions]
        else:
            pairs = [
                (f"{lesson.task.source(example, True)} {description}", max(example.answers, key=lambda a: a[1])[0])
                for example, description in zip(examples, descriptions, strict=True)
            ]
        inputs = _pad([self.tokenizer.encode(source, None) for source, _ in pairs], self.tokenizer.pad_id)
        labels = _pad([self.tokenizer.encode(target, None) for _, target in pairs], -100)
        return model.lm(input_ids=inputs, attention_mask=(inputs != self.tokenizer.pad_id).long(), labels=labels).loss


def _mask_words(sentence: str, mask: str, rng: Random) -> str:
    """Replace about a third of the words."""
    return " ".join(mask if rng.random() < 0.3 else word for word in sentence.split())


def _pad(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


@torch.inference_mode()
def accuracy(model: backbones.VLModel, held_out: LessonSampler, limit: int = 200) -> dict[str, float]:
    """Return for each task in how many % of the first ``limit`` examples the model's answer, given phrase tokens, is
    exactly one of the best answers."""
    model.eval()
    percent = {}
    for name in suites.official_tasks():
        lesson = held_out.lessons[name]
        batch = lesson.collate(list(range(min(limit, len(lesson)))))
        ids = model.generate(batch.input_ids, batch.vis_feats, num_beams=1, max_length=24, forced_eos_token_id=None)
        predictions = [held_out.tokenizer.decode(row) for row in ids.tolist()]
        best = [{answer for answer, score in lesson.examples[i].answers if score > 0.9} for i in batch.ids]
        correct = [prediction in answers for prediction, answers in zip(predictions, best, strict=True)]
        percent[name] = round(100 * float(np.mean(correct)), 1)
    return percent
