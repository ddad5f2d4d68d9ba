"""Captions with five beams: ours against plain ``generate`` of the same model over the same examples, unsorted.

Weights are random, so a hook ends each answer after 8 to 20 tokens, as captions do; the true answers, by which
batches are made of similar ones, have up to two tokens more or less. The two take turns, and their tokens are equal.
Compare the ratio; seconds depend on the machine.
"""

import random
import statistics
import time
from typing import Any

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
EXAMPLES, BATCH, BEAMS, ROUNDS = 32, 8, 5, 7
BAR = 1.3  # times the examples per second of plain generate


class RandomFeatures:
    """Features of an image, drawn from its number; the first of them is the length of its caption."""

    def load(self, example: Example) -> np.ndarray:
        features = np.random.default_rng(int(example.id)).standard_normal((VISUAL, FEATURES), dtype=np.float32)
        features[0, 0] = int(example.reference)
        return features


class Endings:
    """Lets every answer of a model end after as many tokens as the features of its image say."""

    def __init__(self, model: backbones.VLModel) -> None:
        self.lengths = torch.empty(0)
        self.end = model.lm.config.eos_token_id
        encode = model.encode

        def note_lengths(input_ids: torch.Tensor, vis_feats: torch.Tensor, *rest: Any) -> Any:
            self.lengths = vis_feats[:, 0, 0]
            return encode(input_ids, vis_feats * (torch.arange(FEATURES) > 0), *rest)

        model.encode = note_lengths  # type: ignore[method-assign]
        model.lm.register_forward_hook(self.end_answers)

    def end_answers(self, module: Any, args: Any, output: Any) -> None:
        """Make the end certain where an answer is long enough, and impossible where it is not (a hook)."""
        lengths = self.lengths.repeat_interleave(len(output.logits) // len(self.lengths))
        is_over = lengths <= output.past_key_values.get_seq_length()
        output.logits[:, -1, self.end] = torch.where(is_over, 1e4, -1e4)


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
    Endings(model)
    return model


@pytest.mark.benchmark(group=f"captions of {EXAMPLES} images, {BEAMS} beams, batches of {BATCH}, BART of width {WIDTH}")
@pytest.mark.parametrize("method", ["lora", "vl-pet-large"])
def test_captions(benchmark, method: str) -> None:
    text, task = backbones.tokenizer("mini-bart"), tasks.get("caption")
    model = build(text.vocab_size, method)
    rng = random.Random(0)
    lengths = [rng.randint(8, 20) for _ in range(EXAMPLES)]
    answers = ["red " * (length - 2 + rng.randint(-2, 2)) for length in lengths]
    examples = [Example(str(i), "", (f"{i}.h5",), ((answers[i], 1.0),), lengths[i]) for i in range(EXAMPLES)]
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
