"""What a method computes from the run's own training data before it is attached, kept in the cache folder by content.

A file there is named by the digest of everything that the result depends on: the parts of the method that ask for data,
and what their examples and the model are made of. So an attempt that goes on, and a run that differs in its learning
rate alone, find it, and one on other data or weights does not.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import methods
from bench import device as dev
from bench.backbones import VLModel
from bench.config import NOT_IN_ID, Run
from bench.data.batches import Batch, TokenizedSplit, schedule
from bench.data.roots import cache_folder
from bench.files import require_regular_file, write_bytes
from bench.fingerprints import Fingerprints
from bench.run_context import RunContext
from methods.core.preparation import prepare

#: raised when the same content comes to give another result
EDITION = 1
#: the fields of a recipe that change neither the examples nor the model as it is before training
OF_TRAINING = NOT_IN_ID | {
    *("lr", "projector_lr", "weight_decay", "optimizer", "warmup", "clip", "dropout", "epochs", "steps", "batch_size"),
    *("beams", "validate_", "select"),
}
CONTENT = ("data", "features", "backbone", "tokenizer")  # the fingerprints that must all be there


@dataclass(frozen=True)
class Preparation:
    """The tensors that a method has computed from training data, and the seconds that it took when it was computed."""

    tensors: Mapping[str, Tensor]
    seconds: float


def prepare_method(
    context: RunContext,
    model: VLModel,
    training_sets: Mapping[str, TokenizedSplit],
    fingerprints: Fingerprints,
    device: torch.device,
    memory: dev.Memory,
) -> Preparation | None:
    """Have the run's method compute what it needs of the training data, or read it from the cache folder.

    The model is moved to ``device`` for it and back; it and the random generators are as before. Returns None for a
    method that needs no data.
    """
    run = context.run
    spec = methods.get(run.method, **run.overrides).spec(methods.Shape.of(model.lm.config))
    if not any(part.training_examples for part in spec.parts):
        return None
    context.enter("prepare")
    path = cache_file(run, spec, fingerprints)
    if path is not None and (kept := read(path)) is not None:
        return kept
    state, begun = dev.rng_state(), dev.clock(device)
    with memory.phase("prepare"):
        model.to(device)
        tensors = prepare(model, spec, lambda count: examples(run, training_sets, count))
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        model.to("cpu")
    preparation = Preparation(tensors, dev.clock(device) - begun)
    dev.set_rng_state(state)
    if path is not None:
        with suppress(OSError):  # the next run computes it again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save(tensors, metadata={"seconds": repr(preparation.seconds)}))
    return preparation


def examples(run: Run, training_sets: Mapping[str, TokenizedSplit], count: int) -> Iterator[Batch]:
    """Yield the first ``count`` examples of the first epoch, or all where there are fewer, one to a batch.

    The tasks come in the official order of batches, so that each has a share by its number of examples.
    """
    sizes = {task.name: len(training_sets[task.name]) for task in run.task_list}
    next_index = dict.fromkeys(sizes, 0)
    for name in islice(schedule(0, sizes), count):
        batch = training_sets[name].batch(0, next_index[name], 1, run.seed)
        next_index[name] += 1
        if run.recipe.visual == "zero":
            batch = replace(batch, vis_feats=torch.zeros_like(batch.vis_feats))
        yield batch


def cache_file(run: Run, spec: methods.Spec, fingerprints: Fingerprints) -> Path | None:
    """Return where the result for a run is kept; None where it is not certain what the run is made of."""
    if not all(fingerprints.get(part) for part in CONTENT):
        return None
    content = {
        "edition": EDITION,
        "parts": {index: part.data() for index, part in enumerate(spec.parts) if part.training_examples},
        "fingerprints": {part: fingerprints[part] for part in CONTENT},
        "suite": run.suite,
        "tasks": [(task.name, task.version) for task in run.task_list],
        "seed": run.seed,
        "recipe": run.recipe.model_dump(mode="json", exclude=OF_TRAINING),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "preparations" / f"{digest[:32]}.safetensors"


def read(path: Path) -> Preparation | None:
    """Return the content of a file that :func:`prepare_method` wrote; None where there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, SafetensorError):
        require_regular_file(path)
        with safe_open(path, framework="pt") as file:
            seconds = float(file.metadata()["seconds"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if math.isfinite(seconds) and tensors:
            return Preparation(tensors, seconds)
    return None
