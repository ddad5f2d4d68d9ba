"""Evaluation: predictions are those of plain ``generate`` over batches in any order, and no input is decoded twice."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import methods
from bench import backbones, tasks
from bench.config import Execution, resolve
from bench.data.batches import TokenizedSplit
from bench.data.features import FeatureStore
from bench.evaluate import predict
from bench.kept_weights import evaluate
from bench.recipe import Recipe
from bench.run import run_one
from bench.run_dir import RunDir
from methods.core import context

BACKBONES = ("mini-bart", "mini-t5")
FAMILIES = {methods.get(name).family: name for name in reversed(methods.names())}
CPU = torch.device("cpu")
RECIPE = Recipe(lr=1e-3, eval_batch_size=4, n_boxes=9, n_frames=8)


def attached(backbone: str, method: str, **options: Any) -> backbones.VLModel:
    """A pretrained model with a method, every trained parameter moved by noise."""
    torch.manual_seed(0)
    model = backbones.build(backbone, feat_dim=96, n_boxes=RECIPE.n_boxes).eval()
    handle = methods.attach(model, methods.get(method, **options))
    model.reads_padding = handle.spec.reads_padding
    with torch.no_grad():
        for parameter in handle.trained().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def split(task: tasks.Task, root: Path, backbone: str) -> TokenizedSplit:
    store = FeatureStore(root, "grid" if task.suite == "image-text" else "frames", n_frames=RECIPE.n_frames)
    examples = task.read(root, task.report_split)
    return TokenizedSplit(task, examples, backbones.tokenizer(backbone), store, prefix=True)


@torch.inference_mode()
def plainly(model: backbones.VLModel, data: TokenizedSplit, text: Any, recipe: Recipe) -> list[str]:
    """Decode with HF's ``generate`` alone, in the order of the examples."""
    task, decoded = data.task, []
    for begin in range(0, len(data), recipe.eval_batch_size):
        batch = data.collate(range(begin, min(begin + recipe.eval_batch_size, len(data))))
        if task.decode.mode == "binary":
            decoded += backbones.decide(model, text, batch.input_ids, batch.vis_feats, task=task.name)
            continue
        beams = task.decode.beams or recipe.beams
        arguments = backbones.generation_arguments(model, beams, task.decode.max_length, recipe.beam_length)
        with context.task(task.name):
            states, mask = model.encode(batch.input_ids, batch.vis_feats)
            ids = model.lm.generate(encoder_outputs=states, attention_mask=mask, **arguments)
        decoded += [text.decode(row) for row in ids.tolist()]
    return decoded


@pytest.fixture(scope="module", params=BACKBONES)
def tuned(request: pytest.FixtureRequest) -> tuple[str, backbones.VLModel]:
    return request.param, attached(request.param, "vl-pet-large")


@pytest.mark.parametrize("name", tasks.names())
def test_predictions_are_those_of_plain_generation(
    tuned: tuple[str, backbones.VLModel], name: str, tiny_root: Path
) -> None:
    """Whatever the order of batches, the padding in them, and what the beams share."""
    backbone, model = tuned
    data, text = split(tasks.get(name), tiny_root, backbone), backbones.tokenizer(backbone)
    for beams in (1, 3, 5) if data.task.decode.mode == "generate" else (1,):
        recipe = RECIPE.model_copy(update={"beams": beams})
        assert predict(model, data.task, data, text, recipe, CPU) == plainly(model, data, text, recipe)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("method", FAMILIES.values(), ids=FAMILIES.keys())
def test_beams_share_the_encoder_with_methods_of_every_family(method: str, backbone: str) -> None:
    model = attached(backbone, method)
    ids, features = torch.randint(10, 60, (3, 6)), torch.randn(3, 9, 96)
    ids[1, 4:] = model.lm.config.pad_token_id
    arguments = backbones.generation_arguments(model, 3, 8)
    shared = model.generate(ids, features, task="caption", **arguments)
    with context.task("caption"), torch.no_grad():
        states, mask = model.encode(ids, features)
        assert torch.equal(shared, model.lm.generate(encoder_outputs=states, attention_mask=mask, **arguments))


class Watched:
    """A split that notes its batches, and a tokeniser that notes in which thread it decodes."""

    def __init__(self, data: TokenizedSplit, text: Any) -> None:
        self.data, self.text = data, text
        self.batches: list[list[int]] = []
        self.decoding_threads: set[str] = set()
        collate = data.collate

        def watched_collate(chosen: list[int]) -> Any:
            self.batches.append(list(chosen))
            return collate(chosen)

        data.collate = watched_collate  # type: ignore[method-assign, assignment]

    def decode(self, ids: list[int]) -> str:
        self.decoding_threads.add(threading.current_thread().name)
        return self.text.decode(ids)


@pytest.fixture
def watched(tiny_root: Path) -> Iterator[Any]:
    yield lambda name: Watched(split(tasks.get(name), tiny_root, "mini-bart"), backbones.tokenizer("mini-bart"))


@pytest.mark.parametrize("method", ["vl-pet-large", "vl-pet-small"])
@pytest.mark.parametrize("name", ["vqa", "caption", "tvc"])
def test_batches_are_of_similar_lengths_and_every_input_is_in_one(method: str, name: str, watched: Any) -> None:
    """The gate of VL-PET-small is a mean over padding too, so its batches stay sorted by text alone."""
    watch, model = watched(name), attached("mini-bart", method)
    data = watch.data
    predict(model, data.task, data, watch, RECIPE.model_copy(update={"beams": 1}), CPU)
    order = [index for batch in watch.batches for index in batch]
    text = [data.length(index) for index in order]
    both = [(data.answer_length(index), data.length(index)) for index in order]
    if method == "vl-pet-small":
        assert text == sorted(text)
    else:
        assert both == sorted(both)
    inputs = [(data.examples[index].text, data.examples[index].visual) for index in order]
    assert len(inputs) == len(set(inputs)) == len({(e.text, e.visual) for e in data.examples})
    assert threading.main_thread().name not in watch.decoding_threads
    assert len(watch.decoding_threads) == 1


def test_a_failure_of_the_thread_that_decodes_ends_the_evaluation(watched: Any) -> None:
    watch = watched("caption")
    watch.decode = lambda ids: 1 / 0
    with pytest.raises(ZeroDivisionError):
        predict(attached("mini-bart", "lora"), watch.data.task, watch.data, watch, RECIPE, CPU)


SHAPE = backbones.shape("mini-bart")
MERGEABLE = {methods.get(n).family: n for n in methods.names() if methods.get(n).spec(SHAPE).mergeable and n != "full"}


@pytest.mark.parametrize("method", MERGEABLE.values())
def test_a_merged_method_decodes_the_same_tokens(method: str, tiny_root: Path) -> None:
    torch.manual_seed(0)
    model = backbones.build("mini-bart", feat_dim=96, n_boxes=RECIPE.n_boxes).eval()
    handle = methods.attach(model, method)
    with torch.no_grad():
        for parameter in handle.trained().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    data, text = split(tasks.get("caption"), tiny_root, "mini-bart"), backbones.tokenizer("mini-bart")
    wanted = predict(model, data.task, data, text, RECIPE, CPU)
    assert not handle.diagnostics(), "merging would lose them; stages.merge_method leaves such methods as they are"
    handle.merge()
    assert predict(model, data.task, data, text, RECIPE, CPU) == wanted


@pytest.mark.parametrize(("method", "merged"), [("lora", True), ("vl-pet-large", False)])
def test_a_run_may_be_evaluated_merged_and_its_record_says_so(
    method: str, merged: bool, tiny_root: Path, tmp_path: Path
) -> None:
    run = resolve("mini-bart", method, "image-text", task_names=("gqa",), settings={"steps": 3})
    kept = {}
    for merge in (False, True):
        execution = Execution(device="cpu", merge=merge, data={"mini": tiny_root})
        record = run_one(run, execution, tmp_path / str(merge))
        folder = RunDir(tmp_path / str(merge), run.id)
        assert record.environment.get("merged") == (merged if merge else None)
        kept[merge] = folder.weights.read_bytes(), folder.read_predictions("gqa"), record.parameters
    assert kept[True] == kept[False]
    _, again = evaluate(folder.path, execution, split="validation")
    assert again is not None and again.merged == merged
