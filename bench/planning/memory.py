"""The memory of a training at its real batch size, from shapes alone: nothing is allocated and nothing computed."""

from functools import lru_cache
from typing import Any

from bench import suites
from bench.config import Run
from bench.tasks import Task

TEXT, TARGET = 50, 10  # tokens of a source and a target where a task has no limit: the longest sentences of NLVR2
ADAM_MOMENTS = 2


@lru_cache(maxsize=256)
def training_memory(run: Run, columns: int, tasks: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the bytes that a training takes on its device, by purpose, with the task whose batch takes most.

    The keys are those of :func:`bench.device.analytic`, ``total`` and ``task``. One forward pass of the model on
    tensors without content (torch's fake tensors) says what autograd keeps, each text as long as the task's limit or
    ``TEXT`` and ``TARGET`` tokens, the batch in one part.

    Args:
        run: the run.
        columns: number of columns of its features.
        tasks: the tasks whose batches are compared, by default those of the run.
    """
    import torch

    import methods
    from bench import backbones, device

    model = backbones.build(run.backbone, feat_dim=columns, n_boxes=run.recipe.n_boxes, device="meta").train()
    methods.attach(model, methods.get(run.method, **run.overrides), tasks=run.tasks)
    model.set_dropout(run.recipe.dropout)
    if run.recipe.precision == "bf16":
        backbones.hold_in_bf16(model)
    moments = ADAM_MOMENTS * device.size(p for p in model.parameters() if p.requires_grad)
    heaviest, activations = "", -1
    for task in run.task_list:
        if tasks is None or task.name in tasks:
            kept = _kept_bytes(model, task, run, columns, torch)
            if kept > activations:
                heaviest, activations = task.name, kept
    parts = device.analytic(model, moments, activations)
    total = sum(value or 0 for key, value in parts.items() if key != "trainable")  # which is in the weights
    return {**parts, "total": total, "task": heaviest}


def _kept_bytes(model: Any, task: Task, run: Run, columns: int, torch: Any) -> int:
    """Return the bytes that autograd keeps between forward and backward on a batch of a task."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from bench import losses
    from bench.device import SavedActivations, autocast

    meta = torch.device("meta")
    batch, recipe = task.batch_size(run.recipe.batch_size), run.recipe
    visual = (batch, *visual_shape(task, run), columns)
    # The tensors are fake so that HF's code does not ask for their values, which tensors on "meta" do not have.
    with FakeTensorMode(allow_non_fake_inputs=True):
        source = torch.full((batch, task.source_limit or TEXT), 10, device=meta)
        labels = torch.full((batch, task.target_limit or TARGET), 10, device=meta)
        features = torch.zeros(visual, device=meta)
        weights, positions = torch.ones(batch, device=meta), torch.arange(labels.numel(), device=meta)
        with SavedActivations(model) as saved, autocast(torch.device("cpu"), recipe.precision):
            token_losses = model.token_losses(source, features, labels, task.name, positions)
            losses.reduce(task.loss, token_losses, labels, weights, batch)
    return saved.bytes


def visual_shape(task: Task, run: Run) -> tuple[int, ...]:
    """Return the shape of an example's features without their columns: ``(tokens,)``, or ``(2, tokens)`` for NLVR2.

    A task that decides between true and false has a pair of images.
    """
    recipe, is_video = run.recipe, suites.get(run.suite).features.kind == "frames"
    tokens = min(recipe.n_frames, recipe.n_boxes) if is_video else recipe.n_boxes
    return (2, tokens) if task.decode.mode == "binary" else (tokens,)
