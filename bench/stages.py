"""The stages of a run, each a function from the outputs of earlier stages to its own.

Both training (:mod:`bench.run`) and the evaluation of kept weights (:mod:`bench.kept_weights`) are sequences of these.
"""

import json
import time
from typing import Any

import torch

import methods
from bench import backbones, evaluate, train
from bench import device as dev
from bench.checkpoint import Checkpoint, changing_tensors
from bench.config import Run, is_mini
from bench.data import held_out
from bench.data.batches import Share, TokenizedSplit
from bench.data.check import check_for_runs
from bench.data.roots import is_synthetic, locate
from bench.environment import environment
from bench.errors import UsageError
from bench.events import RunEvent
from bench.files import read_json_lines
from bench.fingerprints import Fingerprints, annotation_digests, differences, of_run, overall, summary
from bench.micro_batches import MicroBatches
from bench.preparation import Preparation
from bench.run_context import RunContext
from bench.run_data import feature_columns, read_split, tokenizer
from bench.scoring import score_rows
from bench.stage_outputs import (
    AttachedModel,
    DataRoot,
    Machine,
    PredictedTasks,
    ScoredTasks,
    TaskPredictions,
    TrainingResult,
)
from bench.surroundings import outside_of_training
from bench.tasks import Task
from bench.training_curve import TrainingCurve
from methods.core.handle import Handle


def prepare_machine(context: RunContext) -> Machine:
    """Choose the device and the number of threads."""
    with outside_of_training("looking for the device", broken="CUDA"):
        device = context.group.device(context.execution.device)
        torch.zeros(1, device=device).item()  # a broken one says so before it is blamed on the run
    # A miniature model gains nothing from threads, and sums in another order where there are more of them. Others have
    # as many as torch chose for this process, whatever a run before them had.
    execution, default = context.execution, dev.default_threads()
    torch.set_num_threads(execution.threads or (1 if is_mini(context.run.backbone) else execution.share or default))
    several = f"{context.group.size} x " if context.group.size > 1 else ""
    shared = f", {execution.workers} runs at a time" if execution.workers > 1 else ""
    compiled = ", compiled" if execution.compile else ""
    hardware = f"{several}{dev.hardware_key(device)}{shared}{compiled}"
    facts = environment() | {"device": str(device), "hardware": hardware}
    facts |= {
        "threads": torch.get_num_threads(),
        "workers": execution.workers,
        "world_size": context.group.size,
    }
    return Machine(device, dev.Memory(device), facts)


def prepare_data(context: RunContext) -> DataRoot:
    """Find the data root and check what the run will read; the miniature one is generated if need be."""
    context.enter("data")
    run = context.run
    lacks = tuple(check_for_runs([run], context.execution))
    if lacks:
        context.note(f"the data are not the published ones: {'; '.join(lacks)}")
    root = locate(run.data, run.suite, context.execution.data)
    return DataRoot(run.data, root, overall(annotation_digests(root, run.suite)), is_synthetic(root), lacks)


def take_fingerprints(context: RunContext, data: DataRoot) -> Fingerprints:
    """Write what the run is made of to its directory; an interrupted training on something else is put aside.

    Raises:
        UsageError: a process of the run, on another node, sees other data than the first.
    """
    folder = context.folder
    current = of_run(context.run, data.root)
    if lines := differences(context.group.share(lambda: current), current):
        raise UsageError(f"{data.root}: has not the same content on all nodes ({summary(lines)})")
    if not context.group.leads:
        return current
    lines = differences(folder.read_fingerprints(), current)
    if lines and folder.checkpoint.exists():
        context.note(folder.put_training_aside(f"was made of something else ({summary(lines)})"))
    folder.write_fingerprints(current)
    return current


def read_training_sets(context: RunContext, data: DataRoot) -> dict[str, TokenizedSplit]:
    """Read and tokenise the training split of every task."""
    return {task.name: read_split(context.run, task, "train", data.root) for task in context.run.task_list}


def build_model(context: RunContext, data: DataRoot, machine: Machine) -> backbones.VLModel:
    """Build the backbone with its visual projector in host memory; seeds the random generators first.

    Start values are drawn by the CPU's generator on every machine: a GPU's draws other numbers from the same seed, and
    the same run would begin elsewhere.
    """
    context.enter("model")
    with machine.memory.phase("load"), outside_of_training("building the model"):
        return seeded_model(context.run, feature_columns(data.root, context.run.task_list[0]), "cpu")


def attach_method(
    context: RunContext, model: backbones.VLModel, machine: Machine, preparation: Preparation | None = None
) -> AttachedModel:
    """Put the method into the model, whose start values continue the random numbers of :func:`build_model`, and move
    both to the device. ``preparation`` is what the method has computed from training data, where weights are not loaded
    in the end."""
    with machine.memory.phase("load"), outside_of_training("loading the model"):
        handle = with_method(context.run, model, preparation)
        if context.run.recipe.precision == "bf16":
            backbones.hold_in_bf16(model)
        model.to(machine.device)
    if context.execution.compile:
        backbones.compile_layers(model)
    count = handle.count()
    kinds = ("trainable", "total", "new", "unfrozen", "projector", "percent", "percent_of_backbone")
    return AttachedModel(model, handle, {kind: getattr(count, kind) for kind in kinds})


def micro_batches(context: RunContext, attached: AttachedModel) -> MicroBatches:
    """Return in which parts a batch goes through the model; a note says when memory forces smaller ones."""

    trim, note = (
        not attached.handle.spec.reads_padding,
        "memory did not suffice, batches go through the model in parts of",
    )
    return MicroBatches(context.execution.micro_batch, trim, lambda size: context.note(f"{note} {size} examples"))


def measure_first_step(
    context: RunContext, attached: AttachedModel, plan: train.TrainingPlan, machine: Machine, parts: MicroBatches
) -> int:
    """Run forward and backward once on the first batch, or its longest part, and return the bytes that autograd keeps
    between the two.

    Nothing is updated, and the random state is put back: training draws the same dropout masks and answers as without
    this measurement, and a resumed run, which measures again, the same as one that was never interrupted.
    """
    share = Share(context.group.rank, context.group.size, parts.trim)
    model, batch = attached.model, next(plan.batches(0, context.run.recipe, context.run.seed, share))
    model.train()
    kind, penalties = plan.tasks[batch.task].loss, attached.handle.penalties
    with machine.memory.phase("first_step"):
        return parts.saved_bytes(model, batch, kind, context.run.recipe, machine.device, penalties)


def train_model(
    context: RunContext,
    attached: AttachedModel,
    plan: train.TrainingPlan,
    data: DataRoot,
    fingerprints: Fingerprints,
    machine: Machine,
    parts: MicroBatches,
    activation_bytes: int,
) -> TrainingResult:
    """Train from the start or the last checkpoint; where the recipe selects the best epoch, load its weights at the
    end."""
    run, recipe, folder, group, model = context.run, context.run.recipe, context.folder, context.group, attached.model
    updates_per_epoch = sum(plan.sizes.values())
    curve = TrainingCurve(folder, plan.steps)

    def on_step(step: int, point: dict[str, Any]) -> None:
        context.step = step
        curve.add(step, point)
        numbers = (step, plan.steps, point["loss"], step / updates_per_epoch, point["examples"])
        context.listener(RunEvent("step", run.id, point["task"], *numbers))
        if recipe.validate_ == "epoch" and (step % updates_per_epoch == 0 or step == plan.steps):
            validate_and_select(step)

    def validate_and_select(step: int) -> None:
        mean = validate(context, model, data, machine, step)
        model.train()
        best = read_json_lines(folder.best_epochs, ("step", "mean"))
        if recipe.select == "best" and (not best or mean > best[-1]["mean"]):
            folder.save_weights(attached.handle.save, folder.best_weights)
            folder.append(folder.best_epochs, {"step": step, "mean": mean})

    def on_resume(step: int) -> None:
        _resume(context, step)
        epoch_ended = step > 0 and (step % updates_per_epoch == 0 or step == plan.steps)
        if recipe.validate_ == "epoch" and epoch_ended and not group.share(lambda: is_validated(step)):
            validate_and_select(step)  # the earlier attempt was stopped between the update and its validation

    def is_validated(step: int) -> bool:
        return any(row["step"] == step for row in read_json_lines(folder.validation, ("step",)))

    def load_best() -> dict[str, float] | None:
        if not folder.best_weights.exists():
            return None
        attached.handle.load(folder.best_weights)
        return read_json_lines(folder.best_epochs, ("step", "mean"))[-1]

    group.share_tensors(changing_tensors(model))
    with machine.memory.phase("train"):
        trained = train.train(
            model,
            plan,
            recipe,
            seed=run.seed,
            device=machine.device,
            penalties=attached.handle.penalties,
            update_listeners=attached.handle.update_listeners,
            official_decay=attached.handle.official_decay(),
            micro_batches=parts,
            group=group,
            checkpoint=Checkpoint(
                folder.checkpoint,
                run.id,
                fingerprints,
                reject=lambda reason: context.note(folder.put_training_aside(reason)),
                writing=folder.writing,
                group=group,
                seed=run.seed,
                note=context.note,
            ),
            on_step=on_step,
            on_resume=on_resume,
            should_stop=context.stop_reason,
            before_save=folder.flush,
        )
    if selected := group.share(load_best):
        group.share_tensors(changing_tensors(model))
    return TrainingResult(trained, dev.analytic(model, trained.optimizer_bytes, activation_bytes), selected)


def _resume(context: RunContext, step: int) -> None:
    """Continue at a checkpoint: drop the points that an earlier attempt wrote after it, they will be made again."""
    context.step = step
    for path in (context.folder.curve, context.folder.validation):
        rows = read_json_lines(path, ("step",))
        if before := [row for row in rows if row["step"] <= step]:
            context.folder.write(path, "".join(json.dumps(row) + "\n" for row in before).encode())
        elif rows:
            context.folder.remove(path)
    context.segment.resume(step)


def validate(context: RunContext, model: backbones.VLModel, data: DataRoot, machine: Machine, step: int) -> float:
    """Score the validation splits, append the scores to validation.jsonl, and return their mean over the tasks."""
    scores = {}
    for task in context.run.task_list:
        examples = read_split(context.run, task, "validation", data.root)
        predictions = predict_task(context, model, task, examples, machine)
        if context.group.leads:
            scores[task.name] = task.score(examples.examples, predictions).metrics[task.metric]
    mean = context.group.share(lambda: sum(scores.values()) / len(scores))
    context.folder.append(context.folder.validation, {"step": step, "mean": mean, "scores": scores})
    return mean


def merge_method(context: RunContext, attached: AttachedModel, machine: Machine) -> None:
    """Fold the method into the backbone's weights before an evaluation, where that is asked for and can be done.

    Predictions cost less then, and are the same but for rounding. The environment says whether it was done. A method
    whose modules have diagnostics to report stays as it is.
    """
    if context.execution.merge:
        handle = attached.handle
        if merged := handle.spec.mergeable and not handle.diagnostics():
            handle.merge()
        machine.environment["merged"] = merged


def evaluate_tasks(
    context: RunContext,
    model: backbones.VLModel,
    data: DataRoot,
    machine: Machine,
    *,
    split: str | None = None,
    evaluation: int | None = None,
) -> PredictedTasks:
    """Predict every task and write the predictions, before any metric can fail on them; the first process has them.

    Args:
        context, model, data, machine: outputs of earlier stages.
        split: the logical split, None for the one that each task reports.
        evaluation: the number of a later evaluation, into whose folder the predictions are written.
    """
    context.enter("evaluate")
    begun = time.monotonic()
    predicted = []
    with machine.memory.phase("evaluate"):
        for task in context.run.task_list:
            tokenized = read_split(context.run, task, split or task.report_split, data.root)
            predictions = predict_task(context, model, task, tokenized, machine)
            if not context.group.leads:
                continue
            rows = [
                {"id": example.id, "prediction": prediction, "reference": example.reference}
                for example, prediction in zip(tokenized.examples, predictions, strict=True)
            ]
            context.folder.write_predictions(task.name, rows, evaluation)
            tuning = context.run.recipe.evaluate == "tuning"
            name = held_out.name(task) if tuning else split or task.report_split
            predicted.append(TaskPredictions(task, name, rows, tokenized.tolerated))
    return PredictedTasks(tuple(predicted), time.monotonic() - begun)


def score_tasks(
    context: RunContext, predicted: PredictedTasks, machine: Machine, *, evaluation: int | None = None
) -> ScoredTasks:
    """Score the predictions of every task and write the score of every example beside them.

    A metric that fails gives a failed score and no other harm: `bench score` computes it again from the predictions.

    Raises:
        SurroundingsFault: what a metric needs of the machine is not there, such as Java.
    """
    begun = time.monotonic()
    scores = {}
    with machine.memory.phase("evaluate"):
        for item in predicted.tasks:
            task = item.task
            score, examples = score_rows(task, item.rows, item.split)
            if examples is not None:
                context.folder.write_scores(task.name, examples, evaluation)
            scores[task.name] = score
            context.listener(RunEvent("score", context.run.id, score.summary(task.label)))
    return ScoredTasks(scores, time.monotonic() - begun)


def collect(context: RunContext, machine: Machine, parts: MicroBatches) -> None:
    """Bring the highest memory of all processes, the smallest parts of batches and all notes into the first one."""
    everything = context.group.gather((machine.memory.phases, parts.size, list(context.notes)))
    machine.environment["micro_batch"] = min((size for _, size, _ in everything if size), default=None)
    for rank, (phases, _, notes) in enumerate(everything):
        machine.memory.include(phases)
        for note in (note for note in notes if note not in everything[0][2]):
            context.note(f"process {rank}: {note}")


def seeded_model(run: Run, feat_dim: int, device: torch.device | str) -> backbones.VLModel:
    """Seed all random generators with the run's seed and build its backbone, for features of ``feat_dim`` columns."""
    dev.seed_everything(run.seed)
    model = backbones.build(run.backbone, feat_dim=feat_dim, n_boxes=run.recipe.n_boxes, device=device, seed=run.seed)
    model.set_dropout(run.recipe.dropout)
    model.masks_padding = run.recipe.padding == "masked"
    return model


def with_method(run: Run, model: backbones.VLModel, preparation: Preparation | None = None) -> Handle:
    """Attach the run's method to its backbone and return the method's handle."""
    method = methods.get(run.method, **run.overrides)
    tensors = preparation.tensors if preparation else None
    handle = methods.attach(model, method, tasks=tuple(task.name for task in run.task_list), prepared=tensors)
    model.reads_padding = handle.spec.reads_padding
    return handle


def predict_task(
    context: RunContext, model: backbones.VLModel, task: Task, data: TokenizedSplit, machine: Machine
) -> list[str]:
    """Predict the examples of a split, nothing in all processes but the first; between two batches the run can be
    stopped."""
    with outside_of_training(f"evaluating {task.name}"):
        return evaluate.predict(
            model,
            task,
            data,
            tokenizer(context.run.backbone),
            context.run.recipe,
            machine.device,
            on_batch=lambda done, total: context.stop_if_asked(),
            group=context.group,
        )
