"""The figures of a plan, printed: a table of tasks for every schedule, and a line for every method in it."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.cli.options import show

Progress = Callable[[str], None]
MIB = 2**20


def plan_figures(cells: Sequence[Any], counts: Any, cost_model: Any, progress: Progress) -> list[dict[str, Any]]:
    """Return the figures of every distinct configuration of a plan, as JSON has them: a list of schedules.

    A schedule has the fields of :class:`bench.planning.figures.ScheduleFigures` and ``methods``: for every label its
    seeds, learning rates, trained parameters, memory, disk, and the time of a run with its source.

    Args:
        cells: the cells of the plan.
        counts: says how many examples there are (:class:`bench.planning.counts.ExampleCounts`).
        cost_model: prices runs (:class:`bench.sweep.cost_model.CostModel`).
        progress: receives lines on where it is, "" at its end.
    """
    from dataclasses import asdict

    from bench.planning.figures import schedule_figures, schedule_key

    groups: dict[str, dict[str, list[Any]]] = {}
    for cell in cells:
        if cell.run is not None:
            groups.setdefault(schedule_key(cell.run), {}).setdefault(cell.label, []).append(cell)
    plans = []
    for labels in groups.values():
        schedule = schedule_figures(next(iter(labels.values()))[0].run, counts)
        heaviest = None
        lines = []
        for label, seeds in labels.items():
            progress(f"figures of {label}")
            line = _method(label, seeds, schedule, cost_model, heaviest)
            heaviest = heaviest or ((line["memory"]["task"],) if line["memory"] else None)
            lines.append(line)
        totals = {
            "reported_examples": schedule.reported_examples,
            "validation_examples": schedule.validation_examples,
            "incomplete": schedule.incomplete,
        }
        plans.append({**asdict(schedule), **totals, "methods": lines})
    progress("")
    return plans


def _method(
    label: str, cells: Sequence[Any], schedule: Any, cost_model: Any, heaviest: tuple[str, ...] | None
) -> dict[str, Any]:
    from bench.cli.methods import count, feature_columns
    from bench.planning.disk import disk
    from bench.planning.figures import learning_rates
    from bench.planning.memory import training_memory

    run = cells[0].run
    columns = feature_columns(run.backbone, run.suite)
    counted = count(run.backbone, run.method, columns, run.overrides, run.tasks)
    try:
        memory: dict[str, Any] | None = training_memory(run, columns, heaviest)
    except Exception:  # torch cannot follow every method without values; anything may be raised then
        memory = None
    price = cost_model.price(run, counted.trainable)
    return {
        "label": label,
        "method": run.method,
        "seeds": [cell.seed for cell in cells],
        "lr": run.recipe.lr,
        "learning_rates": {} if schedule.updates is None else learning_rates(run, schedule.updates),
        "projector_lr": run.recipe.projector_lr,
        "weight_decay": run.recipe.weight_decay,
        "optimizer": run.recipe.optimizer,
        "prompts": run.recipe.task_prefix,
        "trainable": counted.trainable,
        "percent": counted.percent,
        "memory": memory,
        "disk": disk(run, counted.trainable, schedule.reported_examples),
        "hours": None if price.seconds is None else price.seconds / 3600,
        "hardware": price.hardware,
        "hours_from": price.source,
    }


def show_figures(plans: Sequence[dict[str, Any]]) -> None:
    """Print the figures of a plan as tables with the sentences that they need."""
    for plan in plans:
        recipe = plan["recipe"]
        where = f"counted in {plan['root']}" if plan["root"] else f"as published for {plan['data']!r}"
        print(f"{plan['backbone']}, {plan['suite']}, recipe {recipe['name']}; numbers of examples {where}\n")
        show([_task_row(task) for task in plan["tasks"]], "table")
        print()
        for line in _sentences(plan):
            print(line)
        print()
        has_projector_lr = any(line["projector_lr"] for line in plan["methods"])
        show([_method_row(line, has_projector_lr) for line in plan["methods"]], "table")
        print()
        for line in _notes(plan):
            print(line)
        print()


def _task_row(task: dict[str, Any]) -> dict[str, Any]:
    validation = task["validation"]
    return {
        "task": task["task"],
        "batch": task["batch_size"],
        "training examples": task["train"]["examples"],
        "updates/epoch": task["updates_per_epoch"],
        "validation": validation["examples"] if validation else None,
        "evaluated on": f"{task['evaluated_on']} ({task['reported']['split']})",
        "examples": task["reported"]["examples"],
    }


def _sentences(plan: dict[str, Any]) -> list[str]:
    recipe, updates, per_epoch = plan["recipe"], plan["updates"], plan["updates_per_epoch"]
    if per_epoch is None:
        each = "updates per epoch: no number of training examples is published or counted"
    else:
        each = f"updates: {per_epoch:,} per epoch"
        each += f" x {recipe['epochs']} epochs" if not recipe["steps"] else ""
    total = "" if updates is None else f", {updates:,} in all, warm-up over the first {plan['warmup_updates']:,}"
    lines = [f"{each}{total}, then the learning rate falls linearly to 0"]
    lines.append(f"validation: {plan['validation']}; evaluated are {plan['selection']}")
    lines.append(f"precision: {recipe['precision']}; beams {recipe['beams']}; visual tokens {recipe['n_boxes']}")
    return lines + [f"incomplete: {line}" for line in plan["incomplete"]]


def _method_row(line: dict[str, Any], has_projector_lr: bool) -> dict[str, Any]:
    memory = line["memory"]
    return {
        "method": line["label"],
        "seeds": ",".join(map(str, line["seeds"])),
        **{f"lr@{step}": f"{rate:.3g}" for step, rate in line["learning_rates"].items()},
        **({"projector's peak": f"{line['projector_lr'] or line['lr']:.3g}"} if has_projector_lr else {}),
        "prompts": line["prompts"],
        "trainable": line["trainable"],
        "%": f"{line['percent']:.2f}",
        "memory MiB": memory["total"] // MIB if memory else None,
        "run MB": f"{line['disk']['total'] / 1e6:.0f}",
        "checkpoint MB": f"{line['disk']['checkpoint'] / 1e6:.0f}",
        "hours": None if line["hours"] is None else f"{line['hours']:.1f}",
    }


def _notes(plan: dict[str, Any]) -> list[str]:
    lines = []
    if memory := next((line["memory"] for line in plan["methods"] if line["memory"]), None):
        parts = ", ".join(
            f"{memory[key] // MIB:,} {key}" for key in ("weights", "gradients", "optimizer", "activations")
        )
        first = next(line["label"] for line in plan["methods"] if line["memory"])
        lines.append(
            f"memory: of a batch of {memory['task']} at the longest texts, from shapes (MiB for {first}: {parts}); "
            "without CUDA's own"
        )
    lines.append(
        "disk: weights, predictions with scores and records of a finished run; a checkpoint beside them while it trains"
    )
    sources: dict[str, list[str]] = {}
    for line in plan["methods"]:
        text = (
            f"{line['hours_from']} on one {line['hardware']}"
            if line["hours"] is not None
            else "nothing like it measured"
        )
        sources.setdefault(text, []).append(line["label"])
    lines += [f"hours of {', '.join(labels)}: {text}" for text, labels in sources.items()]
    if any(line["hours_from"].startswith("table") for line in plan["methods"]):
        lines.append(
            "the table has updates alone: hours are in proportion to the multiplications of the longest texts that a "
            f"task cuts to; predicting {plan['validation_examples']:,} examples in every validation and "
            f"{plan['reported_examples']:,} at the end comes on top"
        )
    return lines
