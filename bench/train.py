"""The training loop: one optimiser step per task batch, in the official order, resumable bit for bit at any step."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench import device as dev
from bench import losses, optim
from bench.checkpoint import Checkpoint, TrainingProgress
from bench.config import Recipe
from bench.data.batches import Batch, TokenizedSplit, schedule
from bench.tasks import Task
from methods.core.contracts import Penalty, UpdateListener


class NotFinite(FloatingPointError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class TrainingPlan:
    """The training data and the number of updates.

    Attributes:
        tasks, data: the tasks and their tokenised training sets, by name.
        sizes: number of batches of one epoch, by task.
        steps: number of updates of the whole training.
    """

    tasks: Mapping[str, Task]
    data: Mapping[str, TokenizedSplit]
    sizes: Mapping[str, int]
    steps: int

    @classmethod
    def of(cls, tasks: list[Task], data: dict[str, TokenizedSplit], recipe: Recipe) -> "TrainingPlan":
        """Plan the updates: ``recipe.steps`` of them, or ``recipe.epochs`` times all batches of all tasks."""
        sizes = {t.name: math.ceil(len(data[t.name]) / t.batch_size(recipe.batch_size)) for t in tasks}
        steps = recipe.steps or (recipe.epochs or 0) * sum(sizes.values())
        return cls({t.name: t for t in tasks}, data, sizes, steps)

    def batches(self, start: int, recipe: Recipe, seed: int) -> Iterator[Batch]:
        """Yield the batch of every update from ``start`` on.

        It depends on the number of the update and the seed only, so that a resumed training gets the same batches.
        """
        per_epoch = sum(self.sizes.values())
        for epoch in range(start // per_epoch, math.ceil(self.steps / per_epoch)):
            next_index = dict.fromkeys(self.sizes, 0)
            for position, name in enumerate(schedule(epoch, self.sizes)):
                step = epoch * per_epoch + position
                index = next_index[name]
                next_index[name] += 1
                if start <= step < self.steps:
                    size = self.tasks[name].batch_size(recipe.batch_size)
                    yield self.data[name].batch(epoch, index, size, seed)


@dataclass
class Trained(TrainingProgress):
    """The work of a training so far, earlier attempts included; ``optimizer_bytes`` is the size of the optimiser's
    state at the end."""

    optimizer_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Seconds spent in updates, without validation and checkpoints."""
        return sum(self.step_seconds)


Hook = Callable[[int, dict[str, Any]], None]


def train(
    model: nn.Module,
    plan: TrainingPlan,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    penalties: Sequence[Penalty] = (),
    update_listeners: Sequence[UpdateListener] = (),
    checkpoint: Checkpoint | None = None,
    on_step: Hook = lambda step, point: None,
    on_resume: Callable[[int], None] = lambda step: None,
    should_stop: Callable[[], str | None] = lambda: None,
    before_save: Callable[[], None] = lambda: None,
) -> Trained:
    """Train the parameters that require a gradient; continue from ``checkpoint`` where it has a usable file.

    The order within an update is that of the official code: learning rate, forward, backward, clipping, step.

    Args:
        model: a VLModel on ``device`` with a method attached.
        plan: the data and the number of updates.
        recipe: learning rate, schedule, clipping, precision.
        seed: of the answers drawn; the caller has seeded torch.
        device: where the batches go.
        penalties: modules of the method whose penalty is added to the loss (``handle.penalties``).
        update_listeners: modules of the method that are called after each update (``handle.update_listeners``).
        checkpoint: for periodic checkpoints (every ``recipe.checkpoint_every`` updates) and for the one on an
            interruption.
        on_step: called after every update with its number (from 1) and ``{"task", "loss", "lr", "examples"}``; it may
            evaluate the model.
        on_resume: called once before the first update, with the number of updates that a checkpoint had made (0 where
            there is none).
        should_stop: asked before every update; a reason makes a checkpoint and raises KeyboardInterrupt with it.
        before_save: called before a checkpoint is written; what it raises prevents that.

    Raises:
        NotFinite: the loss is NaN or infinite.
        KeyboardInterrupt: after a checkpoint, if the run was asked to stop.
    """
    optimiser = optim.build(model, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.projector_lr)
    trainable = [p for p in model.parameters() if p.requires_grad]
    done = Trained()
    if checkpoint is not None and (earlier := checkpoint.restore(model, optimiser, plan.steps)):
        done = Trained(earlier.steps, earlier.examples, earlier.step_seconds)
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
            loss = batch_loss(model, batch, plan.tasks[batch.task].loss, recipe, device, penalties)
            loss.backward()
            if recipe.clip > 0:
                nn.utils.clip_grad_norm_(trainable, recipe.clip)
            value = loss.item()
            if not math.isfinite(value):
                raise NotFinite(f"the loss of task {batch.task} is {value} at step {done.steps + 1}")
            optimiser.step()
            done.steps += 1
            for listener in update_listeners:
                listener.after_update(done.steps, plan.steps)
            optimiser.zero_grad(set_to_none=True)
            done.examples += len(batch.ids)
            done.step_seconds.append(dev.clock(device) - begun)
            lr = recipe.lr * optim.rate(done.steps - 1, plan.steps, recipe.warmup)
            on_step(done.steps, {"task": batch.task, "loss": value, "lr": lr, "examples": len(batch.ids)})
            if checkpoint is not None and recipe.checkpoint_every and done.steps % recipe.checkpoint_every == 0:
                before_save()
                checkpoint.save(model, optimiser, done)
    except KeyboardInterrupt:
        if checkpoint is not None and done.steps:
            before_save()
            checkpoint.save(model, optimiser, done)
        raise
    if checkpoint is not None and not (recipe.checkpoint_every and done.steps % recipe.checkpoint_every == 0):
        before_save()  # an interruption of the evaluation does not cost the training
        checkpoint.save(model, optimiser, done)
    done.optimizer_bytes = dev.size(v for s in optimiser.state.values() for v in s.values() if isinstance(v, Tensor))
    return done


def batch_loss(
    model: nn.Module, batch: Batch, kind: str, recipe: Recipe, device: torch.device, penalties: Sequence[Penalty] = ()
) -> Tensor:
    """Return the loss that the task's official training step computes on a batch, in float32, with the penalties of the
    modules ``penalties``."""
    features = torch.zeros_like(batch.vis_feats) if recipe.visual == "zero" else batch.vis_feats
    with dev.autocast(device, recipe.precision):
        logits = model(batch.input_ids, features, task=batch.task, labels=batch.labels).logits
    loss = losses.reduce(kind, losses.token_losses(logits, batch.labels), batch.labels, batch.weights)
    return sum((p for m in penalties if (p := m.penalty()) is not None), loss)
