"""The training loop: one optimiser step per task batch, in the official order, resumable bit for bit at any step."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from bench import device as dev
from bench import optim
from bench.checkpoint import Checkpoint, TrainingProgress
from bench.config import Recipe
from bench.data.batches import ALL, Batch, Share, TokenizedSplit, schedule
from bench.data.prefetch import WORKERS, Prefetcher, QueuedWork
from bench.events import OwnershipLost
from bench.micro_batches import MicroBatches
from bench.parallel import ALONE, Group, PeerLost
from bench.tasks import Task
from methods.core.contracts import Penalty, UpdateListener

READ_EVERY = 20  # updates whose losses are read from a GPU at once


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

    def batches(self, start: int, recipe: Recipe, seed: int, share: Share = ALL) -> Iterator[Batch]:
        """Yield the batch of every update from ``start`` on, or a process's share of it.

        It depends on the number of the update and the seed only, so that a resumed training gets the same batches.
        """
        return (make() for make in self.jobs(start, recipe, seed, share))

    def jobs(
        self, start: int, recipe: Recipe, seed: int, share: Share = ALL, *, pin: bool = False
    ) -> Iterator[Callable[[], Batch]]:
        """Yield, for every update from ``start`` on, a function that makes its batch, or a process's share of it, in
        pinned memory with ``pin``.

        Several threads may make batches at once.
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
                    yield partial(self.data[name].batch, epoch, index, size, seed, share, pin=pin)

    @property
    def is_in_memory(self) -> bool:
        """Whether all features are in memory, so that nothing is gained by making batches ahead."""
        return all(data.is_in_memory for data in self.data.values())


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
    official_decay: Mapping[str, bool] = MappingProxyType({}),
    micro_batches: MicroBatches | None = None,
    group: Group = ALONE,
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
        official_decay: what the method states about weight decay (``handle.official_decay()``).
        micro_batches: in which parts a batch goes through the model; in one by default.
        group: the processes that share every batch. All of them call this with equal models, and at the end, as after
            every update, their models are equal.
        checkpoint: for periodic checkpoints (every ``recipe.checkpoint_every`` updates) and for the one on an
            interruption.
        on_step: called after every update with its number (from 1) and ``{"task", "loss", "lr", "examples"}``; it may
            evaluate the model.
        on_resume: called once before the first update, with the number of updates that a checkpoint had made (0 where
            there is none).
        should_stop: asked before every update; a reason, in any process, makes a checkpoint and raises
            KeyboardInterrupt with it, in all of them.
        before_save: called before a checkpoint is written; what it raises prevents that.

    Raises:
        NotFinite: the loss is NaN or infinite.
        KeyboardInterrupt: after a checkpoint, if the run was asked to stop.
    """
    rates = (recipe.lr, recipe.weight_decay, recipe.projector_lr)
    optimiser = optim.build(model, recipe.optimizer, *rates, decay=recipe.decay, stated=official_decay)
    micro_batches = micro_batches or MicroBatches()
    trainable = [p for p in model.parameters() if p.requires_grad]
    done = Trained()
    group.seed_dropout(seed, 0)
    if checkpoint is not None and (earlier := checkpoint.restore(model, optimiser, plan.steps)):
        done = Trained(earlier.steps, earlier.examples, earlier.step_seconds, earlier.data_wait_seconds)
    on_resume(done.steps)
    model.train()
    queued, waited_before = QueuedWork(device), done.data_wait_seconds
    share = Share(group.rank, group.size, micro_batches.trim)
    batches = Prefetcher(
        plan.jobs(done.steps, recipe, seed, share, pin=device.type == "cuda"),
        workers=0 if plan.is_in_memory else WORKERS,
        is_busy=queued.is_pending,
    )
    losses_to_read = UnreadLosses(device, done, on_step)
    per_epoch = sum(plan.sizes.values())
    try:
        while done.steps < plan.steps:
            if reason := group.agree(should_stop()):
                raise KeyboardInterrupt(reason)
            batch = next(batches)
            done.data_wait_seconds = waited_before + batches.wait_seconds
            factor = optim.rate(done.steps, plan.steps, recipe.warmup)
            for param_group in optimiser.param_groups:
                param_group["lr"] = param_group["peak"] * factor
            loss = micro_batches.backward(model, batch, plan.tasks[batch.task].loss, recipe, device, penalties)
            loss = group.sum_gradients(trainable, loss)
            if recipe.clip > 0:
                nn.utils.clip_grad_norm_(trainable, recipe.clip)
            losses_to_read.add(loss, {"task": batch.task, "lr": recipe.lr * factor, "examples": batch.examples})
            optimiser.step()
            queued.mark()
            done.steps += 1
            for listener in update_listeners:
                listener.after_update(done.steps, plan.steps)
            optimiser.zero_grad(set_to_none=True)
            done.examples += batch.examples
            to_save = checkpoint is not None and recipe.checkpoint_every and done.steps % recipe.checkpoint_every == 0
            if to_save or done.steps % per_epoch == 0 or done.steps == plan.steps or losses_to_read.due:
                losses_to_read.read()
            if checkpoint is not None and to_save:
                before_save()
                checkpoint.save(model, optimiser, done)
    except (OwnershipLost, PeerLost):  # there is nobody to write a checkpoint, or to gather it from
        raise
    except KeyboardInterrupt:
        losses_to_read.read()
        if checkpoint is not None and done.steps:
            before_save()
            checkpoint.save(model, optimiser, done)
        raise
    finally:
        batches.close()
    if checkpoint is not None and not (recipe.checkpoint_every and done.steps % recipe.checkpoint_every == 0):
        before_save()  # an interruption of the evaluation does not cost the training
        checkpoint.save(model, optimiser, done)
    done.optimizer_bytes = dev.size(v for s in optimiser.state.values() for v in s.values() if isinstance(v, Tensor))
    return done


class UnreadLosses:
    """The losses of the last updates. To read one means to wait for a GPU, so they are read together, some at a time.

    Args:
        device: where the losses are; on a CPU, which never waits, each is due at once.
        done: gets the seconds of the updates: on a GPU, their mean over those that are read together.
        on_step: is called for every update in turn when its loss is read.
    """

    def __init__(self, device: torch.device, done: Trained, on_step: Hook) -> None:
        self._device = device
        self._done = done
        self._on_step = on_step
        self._interval = 1 if device.type == "cpu" else READ_EVERY
        self._losses: list[Tensor] = []
        self._points: list[dict[str, Any]] = []
        self._begun = dev.clock(device)

    @property
    def due(self) -> bool:
        return len(self._losses) >= self._interval

    def add(self, loss: Tensor, point: dict[str, Any]) -> None:
        """Keep the loss of an update, and the rest of what ``on_step`` gets."""
        self._losses.append(loss)
        self._points.append(point)
        if self._interval == 1 and not math.isfinite(loss.item()):  # before the weights are changed
            self.read()

    def read(self) -> None:
        """Call ``on_step`` for all updates whose losses have not been read.

        Raises:
            NotFinite: a loss is NaN or infinite; the earlier updates have been reported.
        """
        if not self._losses:
            return
        values = torch.stack(self._losses).tolist()
        points, count = self._points, len(values)
        seconds = (dev.clock(self._device) - self._begun) / count
        self._losses, self._points = [], []
        first = len(self._done.step_seconds)
        for step, (value, point) in enumerate(zip(values, points, strict=True), start=first + 1):
            if not math.isfinite(value):
                raise NotFinite(f"the loss of task {point['task']} is {value} at step {step}")
            self._done.step_seconds.append(seconds)
            self._on_step(step, point | {"loss": value})
        self._begun = dev.clock(self._device)
