"""The training loop: one optimiser step per task batch, in the official order, resumable bit for bit at any step."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench import device as dev
from bench import losses, optim
from bench.config import Recipe
from bench.data.batches import Batch, Prepared, schedule
from bench.tasks import Task


class NotFinite(FloatingPointError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Plan:
    """What is trained on: one prepared training set per task, and how many updates are made."""

    tasks: Mapping[str, Task]
    data: Mapping[str, Prepared]
    sizes: Mapping[str, int]  # batches of one epoch, per task
    steps: int

    @classmethod
    def of(cls, tasks: list[Task], data: dict[str, Prepared], recipe: Recipe) -> "Plan":
        """Plan the updates: ``recipe.steps`` of them, or ``recipe.epochs`` times all batches of all tasks."""
        sizes = {t.name: math.ceil(len(data[t.name]) / t.batch_size(recipe.batch_size)) for t in tasks}
        steps = recipe.steps or (recipe.epochs or 0) * sum(sizes.values())
        return cls({t.name: t for t in tasks}, data, sizes, steps)

    def batches(self, start: int, recipe: Recipe, seed: int) -> Iterator[Batch]:
        """Yield the batch of every update from ``start`` on; which one depends on the step number only."""
        per_epoch = sum(self.sizes.values())
        for epoch in range(start // per_epoch, math.ceil(self.steps / per_epoch)):
            taken = dict.fromkeys(self.sizes, 0)
            for position, name in enumerate(schedule(epoch, self.sizes)):
                step = epoch * per_epoch + position
                index = taken[name]
                taken[name] += 1
                if start <= step < self.steps:
                    size = self.tasks[name].batch_size(recipe.batch_size)
                    yield self.data[name].batch(epoch, index, size, seed)


@dataclass
class Trained:
    """What a training did in this process: updates made so far by all segments, examples seen, seconds of each update,
    bytes of optimiser state."""

    steps: int = 0
    examples: int = 0
    optimizer_bytes: int = 0
    step_seconds: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds spent in updates: validation and checkpoints are not in it."""
        return sum(self.step_seconds)


Hook = Callable[[int, dict[str, Any]], None]


def train(
    model: nn.Module,
    plan: Plan,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_step: Hook = lambda step, point: None,
    on_resume: Callable[[int], None] = lambda step: None,
    should_stop: Callable[[], str | None] = lambda: None,
) -> Trained:
    """Train the parameters that require a gradient; continue from ``checkpoint`` where that file exists.

    Args:
        model: a VLModel on ``device`` with a method attached.
        plan: the data and the number of updates.
        recipe: learning rate, schedule, clipping, precision.
        seed: of the answers drawn; the caller has seeded torch.
        device: where the batches go.
        checkpoint: file for periodic checkpoints (every ``recipe.checkpoint_every`` updates) and for the one on an
            interruption.
        on_step: called after every update with its number (from 1) and ``{"task", "loss", "lr"}``; it may evaluate the
            model.
        on_resume: called with the number of updates already made, where a checkpoint is continued.
        should_stop: asked before every update; a reason makes a checkpoint and raises KeyboardInterrupt with it.

    Raises:
        NotFinite: the loss is NaN or infinite.
        KeyboardInterrupt: after a checkpoint, if the run was asked to stop.
    """
    optimiser = optim.build(model, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.projector_lr)
    listeners: list[Any] = [m for m in model.modules() if hasattr(m, "updated")]
    trainable = [p for p in model.parameters() if p.requires_grad]
    done = Trained()
    if checkpoint is not None and checkpoint.exists():
        done.steps = _restore(checkpoint, model, optimiser, device)
        on_resume(done.steps)
    model.train()
    batches = plan.batches(done.steps, recipe, seed)
    try:
        while done.steps < plan.steps:
            if reason := should_stop():
                raise KeyboardInterrupt(reason)
            begun = dev.clock(device)
            batch = next(batches).to(device)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * optim.rate(done.steps, plan.steps, recipe.warmup)
            loss = batch_loss(model, batch, plan.tasks[batch.task].loss, recipe, device)
            loss.backward()
            if recipe.clip > 0:
                nn.utils.clip_grad_norm_(trainable, recipe.clip)
            value = loss.item()
            if not math.isfinite(value):
                raise NotFinite(f"the loss of task {batch.task} is {value} at step {done.steps + 1}")
            optimiser.step()
            done.steps += 1
            for listener in listeners:
                listener.updated(done.steps, plan.steps)
            optimiser.zero_grad(set_to_none=True)
            done.examples += len(batch.ids)
            done.step_seconds.append(dev.clock(device) - begun)
            lr = recipe.lr * optim.rate(done.steps - 1, plan.steps, recipe.warmup)
            on_step(done.steps, {"task": batch.task, "loss": value, "lr": lr})
            if checkpoint is not None and recipe.checkpoint_every and done.steps % recipe.checkpoint_every == 0:
                _save(checkpoint, model, optimiser, done.steps)
    except KeyboardInterrupt:
        if checkpoint is not None and done.steps:
            _save(checkpoint, model, optimiser, done.steps)
        raise
    done.optimizer_bytes = dev.size(v for s in optimiser.state.values() for v in s.values() if isinstance(v, Tensor))
    return done


def batch_loss(model: nn.Module, batch: Batch, kind: str, recipe: Recipe, device: torch.device) -> Tensor:
    """Return the loss that the task's official training step computes on a batch, in float32, and what a method adds.

    A module of the model may have ``penalty() -> Tensor | None``, asked after each forward pass, and
    ``updated(step, total)``, called after each update, while the gradients are still there.
    """
    features = torch.zeros_like(batch.vis_feats) if recipe.visual == "zero" else batch.vis_feats
    with dev.autocast(device, recipe.precision):
        logits = model(batch.input_ids, features, task=batch.task, labels=batch.labels).logits
    loss = losses.reduce(kind, losses.token_losses(logits, batch.labels), batch.labels, batch.weights)
    penal: list[Any] = [m for m in model.modules() if hasattr(m, "penalty")]
    return sum((p for m in penal if (p := m.penalty()) is not None), loss)


def _save(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write what training changes, optimiser and random states, atomically."""
    state = {
        "step": step,
        "tensors": {name: tensor.detach().cpu() for name, tensor in _changing(model).items()},
        "optimizer": optimiser.state_dict(),
        "rng": dev.rng_state(),
    }
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _changing(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: trained parameters, and what a method counts along the way in its buffers."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if name.startswith("pet.")}


def _restore(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device) -> int:
    """Continue from a checkpoint of this run and return the number of updates it had made."""
    state = torch.load(path, map_location=device, weights_only=True)
    own = _changing(model)
    with torch.no_grad():
        for name, tensor in state["tensors"].items():
            own[name].copy_(tensor)
    optimiser.load_state_dict(state["optimizer"])
    dev.set_rng_state(state["rng"])
    return int(state["step"])
