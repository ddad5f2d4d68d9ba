"""Captions with five beams: ours against plain ``generate`` of the same model over the same examples, unsorted.

Weights are random, so every answer has the greatest length; what batches of similar answers save is not in the figure.
The two take turns, plain first, and their tokens are equal. Compare the ratio; seconds depend on the machine.
"""

import statistics
import time

import numpy as np
import pytest
import torch
from transformers import BartConfig

import methods
from bench import backbones, evaluate, tasks
from bench.data.batches import TokenizedSplit
from bench.recipe import Recipe
from bench.tasks import Example
from methods.core import context

WIDTH, LAYERS, VISUAL, FEATURES = 256, 6, 36, 2048
EXAMPLES, BATCH, BEAMS, ROUNDS = 16, 8, 5, 7
BAR = 1.3  # times the examples per second of plain generate


class RandomFeatures:
    """Features of an image, drawn from its number."""

    def load(self, example: Example) -> np.ndarray:
        return np.random.default_rng(int(example.id)).standard_normal((VISUAL, FEATURES), dtype=np.float32)


def build(vocabulary: int, method: str) -> backbones.VLModel:
    sides = {"layers": LAYERS, "attention_heads": 4, "ffn_dim": 4 * WIDTH}
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sides.items()}
    torch.manual_seed(0)
    model = backbones.build(BartConfig(vocab_size=vocabulary, d_model=WIDTH, **sizes), feat_dim=FEATURES).eval()
    handle = methods.attach(model, method)
    model.reads_padding = handle.spec.reads_padding
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return model


@pytest.mark.benchmark(group=f"captions of {EXAMPLES} images, {BEAMS} beams, batches of {BATCH}, BART of width {WIDTH}")
@pytest.mark.parametrize("method", ["lora", "vl-pet-large"])
def test_captions(benchmark, method: str) -> None:
    text, task = backbones.tokenizer("mini-bart"), tasks.get("caption")
    model = build(text.vocab_size, method)
    examples = [Example(str(i), "", (f"{i}.h5",), (("a red circle", 1.0),)) for i in range(EXAMPLES)]
    data = TokenizedSplit(task, examples, text, RandomFeatures(), prefix=True)
    recipe = Recipe(lr=1e-3, beams=BEAMS, eval_batch_size=BATCH)
    arguments = backbones.generation_arguments(model, BEAMS, task.decode.max_length)

    @torch.inference_mode()
    def plain() -> list[str]:
        decoded = []
        for begin in range(0, EXAMPLES, BATCH):
            batch = data.collate(range(begin, begin + BATCH))
            with context.task(task.name):
                states, mask = model.encode(batch.input_ids, batch.vis_feats)
                ids = model.lm.generate(encoder_outputs=states, attention_mask=mask, **arguments)
            decoded += [text.decode(row) for row in ids.tolist()]
        return decoded

    def ours() -> list[str]:
        return evaluate.predict(model, task, data, text, recipe, torch.device("cpu"))

    rival: list[float] = []

    def take_turns() -> None:
        begin = time.perf_counter()
        plain()
        rival.append(time.perf_counter() - begin)

    assert ours() == plain()
    benchmark.pedantic(ours, setup=take_turns, rounds=ROUNDS)
    median = statistics.median(benchmark.stats.stats.data)
    speed = statistics.median(rival) / median
    benchmark.extra_info |= {"examples_per_second": EXAMPLES / median, "to plain generate": speed, "bar": BAR}
    print(f"\n{method}: {EXAMPLES / median:.1f} examples/s, {speed:.2f} times those of plain generate (bar {BAR})")
