"""Predictions at the size of BART-base: ours against plain ``generate`` over batches in the order of the examples."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from bench import backbones, tasks
from bench.config import resolve
from bench.data.batches import TokenizedSplit
from bench.evaluate import predict
from bench.tasks import Example
from benchmarks.measuring import contest, set_bar
from benchmarks.steps import CPU, VISUAL, Contender, Size
from methods.core import context

BATCH, BATCHES = 8, 3
CAPTION_BAR = 1.3  # times the examples per second of plain generate, with beams
TOKENIZER = "mini-bart"  # that of BART is not in the package; its ids are rows of every BART


@dataclass
class RandomFeatures:
    """Gives every image features of its own."""

    columns: int
    tables: dict[str, Any] = field(default_factory=dict)

    def load(self, example: Example) -> Any:
        name = example.visual[0]
        if name not in self.tables:
            generator = np.random.default_rng(len(self.tables))
            self.tables[name] = generator.standard_normal((VISUAL, self.columns), dtype=np.float32)
        return self.tables[name]


def make_split(task: tasks.Task, size: Size) -> TokenizedSplit:
    """Return examples whose texts have very different lengths, in a random order."""
    rng = random.Random(0)
    words = ["red", "blue", "circle", "square", "left", "right", "above", "what", "is", "the", "a", "near", "of"]
    texts = [
        "" if task.name == "caption" else " ".join(rng.choices(words, k=1 + 3 * (i % 6)))
        for i in range(BATCH * BATCHES)
    ]
    rng.shuffle(texts)
    examples = [Example(str(i), text, (f"{i}.h5",), (("a", 1.0),)) for i, text in enumerate(texts)]
    return TokenizedSplit(task, examples, backbones.tokenizer(TOKENIZER), RandomFeatures(size.features), prefix=True)


@pytest.mark.benchmark(group=f"predictions of {BATCH * BATCHES} examples in batches of {BATCH}, vl-pet-large")
@pytest.mark.parametrize("name", ["caption", "gqa"], ids=["captions, 5 beams", "answers, greedy"])
def test_predictions(benchmark, small: bool, name: str, rounds: int) -> None:
    size, task = Size(small), tasks.get(name)
    model = Contender(size, "vl-pet-large").model.eval()
    data, text = make_split(task, size), backbones.tokenizer(TOKENIZER)
    recipe = resolve("bart-base", "vl-pet-large", "image-text", settings={"eval_batch_size": BATCH}).recipe
    arguments = backbones.generation_arguments(model, task.decode.beams or recipe.beams, task.decode.max_length)

    @torch.inference_mode()
    def plain() -> list[str]:
        answers = []
        for begin in range(0, len(data), BATCH):
            batch = data.collate(range(begin, min(begin + BATCH, len(data))))
            with context.task(task.name):  # model.generate shares the encoder's keys and values among beams
                states, mask = model.encode(batch.input_ids, batch.vis_feats)
                ids = model.lm.generate(encoder_outputs=states, attention_mask=mask, **arguments)
            answers += [text.decode(row) for row in ids.tolist()]
        return answers

    def ours() -> list[str]:
        return predict(model, task, data, text, recipe, CPU)

    assert ours() == plain()
    contest(benchmark, ours, plain, rounds, rival_name="plain generate", examples=len(data))
    benchmark.extra_info["method"] = "vl-pet-large"
    if name == "caption":
        speed = 1 / benchmark.extra_info["ratio"]
        set_bar(benchmark, "examples/s to those of plain generate", speed, at_least=CAPTION_BAR)
