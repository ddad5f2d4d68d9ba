"""Predictions of a trained model for one task, decoded as the task prescribes."""

from collections.abc import Callable

import torch

from bench import backbones
from bench import device as dev
from bench.backbones.tokenization import Tokenizer
from bench.config import Recipe
from bench.data.batches import TokenizedSplit
from bench.tasks import Task


@torch.inference_mode()
def predict(
    model: backbones.VLModel,
    task: Task,
    data: TokenizedSplit,
    text: Tokenizer,
    recipe: Recipe,
    device: torch.device,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Return one prediction per example, in the order of the examples.

    Inputs that several examples share are decoded once: video captions have one example per reference and so the same
    input several times (quirk VCAP-1REF).

    Args:
        model: a trained model on ``device``; it is left in eval mode.
        task: decides how answers are decoded.
        data: the tokenised examples.
        text: the tokeniser, for decoding.
        recipe: batch size, beams and how they are ranked, precision, and whether features are zeroed.
        device: where the batches go.
        on_batch: called after every batch with the number of decoded inputs and of all; it may raise to stop.
    """
    model.eval()
    first_with_input: dict[tuple[str, ...], int] = {}
    for index, example in enumerate(data.examples):
        first_with_input.setdefault((example.text, *example.visual), index)
    indices = sorted(first_with_input.values(), key=data.length)  # similar lengths together: less padding
    answers: dict[int, str] = {}
    size = recipe.eval_batch_size
    for begin in range(0, len(indices), size):
        batch = data.collate(indices[begin : begin + size]).to(device)
        features = torch.zeros_like(batch.vis_feats) if recipe.visual == "zero" else batch.vis_feats
        with dev.autocast(device, recipe.precision):
            if task.decode.mode == "binary":
                decoded = backbones.decide(model, text, batch.input_ids, features, task=task.name)
            else:
                beams = task.decode.beams or recipe.beams
                limits = (beams, task.decode.max_length)
                arguments = backbones.generation_arguments(model, *limits, recipe.beam_length)
                ids = model.generate(batch.input_ids, features, task=task.name, **arguments)
                decoded = [text.decode(row) for row in ids.tolist()]
        answers.update(zip(batch.ids, decoded, strict=True))
        on_batch(min(begin + size, len(indices)), len(indices))
    return [answers[first_with_input[(e.text, *e.visual)]] for e in data.examples]
