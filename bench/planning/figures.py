"""The figures of a planned training: what it does in every update, and what it takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.config import Run
from bench.data.check import splits_of
from bench.planning.counts import ExampleCounts, SplitCount, training_plan
from bench.tasks import Task

#: fields of a recipe that may differ between methods of one schedule
OF_METHODS = {"name", "lr", "projector_lr", "weight_decay", "task_prefix", "optimizer", "dropout", "clip"}


@dataclass(frozen=True)
class TaskFigures:
    """One task in a schedule: its batch size, its splits, and its updates in an epoch.

    ``evaluated_on`` is the logical split that is reported, ``reported`` its examples; ``validation`` is None where the
    schedule does not validate.
    """

    task: str
    batch_size: int
    train: SplitCount
    updates_per_epoch: int | None
    validation: SplitCount | None
    evaluated_on: str
    reported: SplitCount


@dataclass(frozen=True)
class ScheduleFigures:
    """What the methods of a table have in common. The figures are None where numbers of examples are not known.

    Attributes:
        backbone, suite, data: those of the runs.
        root: the folder in which examples were counted; "" where their numbers are the published ones.
        recipe: fields of the recipe that are the same for all methods.
        tasks: one entry per task.
        updates_per_epoch, updates, warmup_updates: of all tasks together.
        validation: how often the model is validated.
        selection: which weights are evaluated.
    """

    backbone: str
    suite: str
    data: str
    root: str
    recipe: dict[str, Any]
    tasks: tuple[TaskFigures, ...]
    updates_per_epoch: int | None
    updates: int | None
    warmup_updates: int | None
    validation: str
    selection: str

    @property
    def reported_examples(self) -> int:
        """The number of examples of all reported splits, as far as it is known."""
        return sum(task.reported.examples or 0 for task in self.tasks)

    @property
    def validation_examples(self) -> int:
        """The number of examples of one validation, as far as it is known."""
        return sum(task.validation.examples or 0 for task in self.tasks if task.validation)

    @property
    def incomplete(self) -> list[str]:
        """What says which splits of the data root are not the published ones."""
        lines = []
        for task in self.tasks:
            for name, count in (("train", task.train), ("validation", task.validation), ("", task.reported)):
                if count is not None and count.is_incomplete:
                    examples = "unreadable" if count.fault else f"{count.examples:,}"
                    of = "" if count.published is None else f" of {count.published:,}"
                    line = f"{task.task} {name or task.evaluated_on}: {examples}{of} examples ({count.split})"
                    lines.append(f"{line}; {count.fault}" if count.fault else line)
        return list(dict.fromkeys(lines))


def schedule_key(run: Run) -> str:
    """Return a text that is equal for runs of one schedule: all but the method, its settings and the seed agree."""
    shared = run.recipe.model_dump(by_alias=True, exclude=OF_METHODS)
    return repr((run.backbone, run.suite, run.tasks, run.data, sorted(shared.items(), key=lambda item: item[0])))


def schedule_figures(run: Run, counts: ExampleCounts) -> ScheduleFigures:
    """Return the figures of the schedule of a run.

    Raises:
        UsageError: the folder of its data root is not there.
    """
    recipe = run.recipe
    train = {task.name: counts.count(run, task, "train") for task in run.task_list}
    plan = training_plan(run, {name: count.examples for name, count in train.items()})
    updates = plan.steps if plan else recipe.steps
    root = counts.root(run)
    validation = {"never": "never", "epoch": "after every epoch, and after the last update"}[recipe.validate_]
    return ScheduleFigures(
        backbone=run.backbone,
        suite=run.suite,
        data=run.data,
        root="" if root is None else str(root),
        recipe=recipe.model_dump(by_alias=True, exclude=OF_METHODS - {"name"}),
        tasks=tuple(
            TaskFigures(
                task=task.name,
                batch_size=task.batch_size(recipe.batch_size),
                train=train[task.name],
                updates_per_epoch=plan.sizes[task.name] if plan else None,
                validation=_validation(run, task, counts),
                evaluated_on=task.report_split,
                reported=counts.count(run, task, task.report_split),
            )
            for task in run.task_list
        ),
        updates_per_epoch=sum(plan.sizes.values()) if plan else None,
        updates=updates,
        warmup_updates=None if updates is None else int(recipe.warmup * updates),
        validation=validation,
        selection={
            "last": "the last weights",
            "best": "the weights of the epoch with the best mean validation score",
        }[recipe.select],
    )


def _validation(run: Run, task: Task, counts: ExampleCounts) -> SplitCount | None:
    is_read = run.recipe.validate_ == "epoch" and "validation" in splits_of(run, task)
    return counts.count(run, task, "validation") if is_read else None


def learning_rates(run: Run, updates: int) -> dict[int, float]:
    """Return the learning rate of some updates, by the number of updates made before.

    They are the first, those in the middle and at the end of the warm-up, and those in the middle and at the end of the
    training.
    """
    from bench.optim import rate  # imports torch

    warmup = int(run.recipe.warmup * updates)
    steps: Sequence[int] = sorted({0, warmup // 2, warmup, updates // 2, updates - 1})
    return {step: run.recipe.lr * rate(step, updates, run.recipe.warmup) for step in steps}
