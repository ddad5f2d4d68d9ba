"""Predictions of a trained model for one task, decoded as the task prescribes."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from bench import backbones
from bench import device as dev
from bench.backbones.tokenization import Tokenizer
from bench.config import Recipe
from bench.data.batches import TokenizedSplit
from bench.parallel import ALONE, Group
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
    group: Group = ALONE,
) -> list[str]:
    """Return one prediction per example, in the order of the examples; in all processes but the first, nothing.

    Inputs that several examples share are decoded once: video captions have one example per reference and so the same
    input several times (quirk VCAP-1REF). A thread turns the tokens of a batch into text while the next one is
    decoded.

    Args:
        model: a trained model on ``device``; it is left in eval mode.
        task: decides how answers are decoded.
        data: the tokenised examples.
        text: the tokeniser, for decoding.
        recipe: batch size, beams and how they are ranked, precision, and whether features are zeroed.
        device: where the batches go.
        on_batch: called after every batch with the number of decoded inputs and of all; it may raise to stop.
        group: the processes that deal out the batches, which are those of a single process.
    """
    model.eval()
    first_with_input: dict[tuple[str, ...], int] = {}
    for index, example in enumerate(data.examples):
        first_with_input.setdefault((example.text, *example.visual), index)
    indices = _in_order(data, list(first_with_input.values()), generates=task.decode.mode == "generate", model=model)
    answers: dict[int, str] = {}
    size = recipe.eval_batch_size
    with ThreadPoolExecutor(1, "detokenise") as background:
        texts: list[tuple[list[int], Future[list[str]]]] = []
        for begin in range(0, len(indices), size * group.size):  # as many batches as there are processes
            mine = begin + size * group.rank
            if chosen := indices[mine : mine + size]:
                batch = data.collate(chosen).to(device)
                features = torch.zeros_like(batch.vis_feats) if recipe.visual == "zero" else batch.vis_feats
                with dev.autocast(device, recipe.precision):
                    if task.decode.mode == "binary":
                        decided = backbones.decide(model, text, batch.input_ids, features, task=task.name)
                        answers.update(zip(batch.ids, decided, strict=True))
                    else:
                        beams = task.decode.beams or recipe.beams
                        limits = (beams, task.decode.max_length)
                        arguments = backbones.generation_arguments(model, *limits, recipe.beam_length)
                        ids = model.generate(batch.input_ids, features, task=task.name, **arguments)
                        texts.append((batch.ids, background.submit(_decode, text, ids.tolist())))
            on_batch(min(begin + size * group.size, len(indices)), len(indices))
    for examples, decoded in texts:
        answers.update(zip(examples, decoded.result(), strict=True))
    answers = {index: answer for part in group.gather(answers) for index, answer in part.items()}
    return [answers[first_with_input[(e.text, *e.visual)]] for e in data.examples] if group.leads else []


def _in_order(data: TokenizedSplit, indices: list[int], *, generates: bool, model: backbones.VLModel) -> list[int]:
    """Return examples in the order in which they are decoded: alike ones share a batch, which costs what its longest
    text and its longest answer do.

    How long an answer will be is guessed from the true one, where there is one; nothing else is done with it. A method
    that reads padding has other results in other batches, so there only the texts count, as they always did.
    """
    if generates and not model.reads_padding:
        return sorted(indices, key=lambda index: (data.answer_length(index), data.length(index)))
    return sorted(indices, key=data.length)


def _decode(text: Tokenizer, rows: Sequence[list[int]]) -> list[str]:
    return [text.decode(row) for row in rows]
