"""One run from configuration to record: the only place that trains."""

import json
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import methods
from bench import backbones, evaluate, records, train
from bench import device as dev
from bench.config import Execution, Run, is_mini
from bench.data import held_out
from bench.data.batches import TokenizedSplit
from bench.data.check import counts, fingerprint
from bench.data.features import FeatureStore
from bench.data.features import feat_dim as read_feat_dim
from bench.data.roots import is_synthetic, locate
from bench.environment import environment
from bench.events import Report, RunEvent, RunHold, silent
from bench.records import Failure, OwnershipLost, Record, RunDir, Score
from bench.tasks import Task
from bench.training_curve import TrainingCurve

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # USR2: from Slurm, before preemption and the time limit


def run_one(
    run: Run, execution: Execution, results: Path, report: Report = silent, hold: RunHold | None = None
) -> Record:
    """Train, evaluate, measure and record one run; continue it where an interrupted attempt left a checkpoint.

    Args:
        run: what to run.
        execution: where: device, threads, folders of data roots.
        results: the results folder.
        report: receives the progress.
        hold: says when the run is to stop, and when it has been lost to another process.

    Returns:
        The record, which has been written. A run that fails has a record too, with its cause.

    Raises:
        KeyboardInterrupt: the run was interrupted; its checkpoint is kept and no record is written.
        Lost: another process has taken the run over; nothing more was written.
        UsageError: the results folder cannot be written.
    """
    hold = hold or RunHold()
    work = Work(run, execution, RunDir(results, run.id, hold.check), report, hold)
    work.folder.begin(run)
    report(RunEvent("start", run.id))
    try:
        with _signals(work):
            record = work.record()
    except OwnershipLost:
        raise
    except KeyboardInterrupt as stop:
        work.end_segment(str(stop) or "interrupted")
        report(RunEvent("end", run.id, "interrupted"))
        raise
    except Exception as error:
        record = work.failure(error)
    work.folder.finish(record)
    report(RunEvent("end", run.id, record.status if record.cause is None else f"{record.status}: {record.cause}"))
    return record


@contextmanager
def _signals(work: "Work") -> Iterator[None]:
    """Let signals ask the run to stop at its next update, where signals can be handled at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, work.ask_to_stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@lru_cache(maxsize=64)
def _prepared(
    root: Path, task: Task, split: str, backbone: str, prefix: bool, n_frames: int, limit: int | None, tuning: bool
) -> TokenizedSplit:
    """Read and tokenise one split of a task; runs of a sweep in one process share it."""
    examples = (held_out.read(task, root, split) if tuning else task.read(root, split))[:limit]
    return TokenizedSplit(task, examples, _text(backbone), _store(root, n_frames), prefix=prefix)


_store = lru_cache(lambda root, n_frames: FeatureStore(root, n_frames=n_frames))
_text = lru_cache(backbones.tokenizer)
_feat_dim = lru_cache(read_feat_dim)


@dataclass
class Work:
    """A run in progress: what is known of it so far, so that a failure at any point can be recorded."""

    run: Run
    execution: Execution
    folder: RunDir
    report: Report
    hold: RunHold = field(default_factory=RunHold)
    phase: str = "set-up"
    step: int = 0
    stop: str | None = None
    begun: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=records.now)
    start_step: int = 0
    segment_ended: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def ask_to_stop(self, number: int, frame: object) -> None:
        """Handle a signal: stop at the next update if training, at once otherwise."""
        self.stop = signal.Signals(number).name
        if self.phase != "train":
            raise KeyboardInterrupt(self.stop)

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self.phase = phase
        self.report(RunEvent("phase", self.run.id, phase))

    def record(self) -> Record:
        """Do the whole run and return its record."""
        run, recipe = self.run, self.run.recipe
        device, memory = self.begin()
        root = self.find_data()
        sets = {task.name: self.prepared(root, task, "train") for task in run.task_list}
        model, handle = self.build(root, device, memory)
        self.enter("train")
        plan = train.TrainingPlan.of(run.task_list, sets, recipe)
        activations = self.first_step(handle, plan, memory, device)
        done = self.training(model, handle, plan, memory, device, root)
        self.facts["time"] = _times(done)
        self.facts["memory"] = {
            "definition": dev.MEMORY_DEFINITION,
            "phases": memory.phases,
            "analytic": dev.analytic(model, done.optimizer_bytes, activations),
        }
        self.hold.check()
        handle.save(self.folder.weights)
        self.end_segment("done")
        scores = self.evaluate(model, root, device, memory)
        self.facts["data"]["counts"] = counts(sets)
        return self.ended(status="done", scores=scores)

    def begin(self) -> tuple[torch.device, dev.Memory]:
        """Choose the device and note where this is."""
        device = dev.pick(self.execution.device)
        # A miniature model gains nothing from threads, and sums in another order where there are more of them.
        if threads := self.execution.threads or (1 if is_mini(self.run.backbone) else 0):
            torch.set_num_threads(threads)
        self.facts["environment"] = environment() | {"device": str(device), "hardware": dev.hardware_key(device)}
        return device, dev.Memory(device)

    def find_data(self) -> Path:
        """Find the data root and note which one it is."""
        self.enter("data")
        root = locate(self.run.data, self.execution.data)
        self.facts["data"] = {
            "name": self.run.data,
            "root": str(root),
            "fingerprint": fingerprint(root, self.run.suite),
            "synthetic": is_synthetic(root),
        }
        return root

    def build(self, root: Path, device: torch.device, memory: dev.Memory) -> tuple[Any, Any]:
        """Return the model with the method in it, at its start values, and the method's handle."""
        self.enter("model")
        with memory.phase("load"):
            model, handle = build(self.run, _feat_dim(root, self.run.suite), device)
        self.facts["parameters"] = _parameters(handle.count())
        return model, handle

    def evaluate(self, model: Any, root: Path, device: torch.device, memory: dev.Memory) -> dict[str, Score]:
        """Predict and score every task."""
        self.enter("evaluate")
        clock = time.monotonic()
        with memory.phase("evaluate"):
            scores = {task.name: self.scored(model, task, root, device) for task in self.run.task_list}
        self.facts["time"] = self.facts.get("time", {}) | {
            "evaluate_seconds": time.monotonic() - clock,
            "total_seconds": time.monotonic() - self.begun,
        }
        return scores

    def prepared(self, root: Path, task: Task, split: str) -> TokenizedSplit:
        """Return a prepared split, cut to ``recipe.limit`` examples if there is one; a run that tunes is evaluated on
        nothing but what tuning may look at."""
        recipe = self.run.recipe
        tuning = recipe.evaluate == "tuning"
        if tuning and split != held_out.TRAIN:
            split = held_out.TUNING
        shared = (self.run.backbone, recipe.task_prefix, recipe.n_frames, recipe.limit)
        return _prepared(root, task, split, *shared, tuning)

    def first_step(self, handle: Any, plan: train.TrainingPlan, memory: dev.Memory, device: torch.device) -> int:
        """Run forward and backward once on the first batch, change nothing, and return the bytes kept for the backward
        pass.

        The random state is put back, so that training is the same with and without this measurement.
        """
        state, model = dev.rng_state(), handle.model
        recipe = self.run.recipe
        batch = next(plan.batches(0, recipe, self.run.seed)).to(device)
        model.train()
        with memory.phase("first_step"), dev.SavedActivations(model) as kept:
            train.batch_loss(model, batch, plan.tasks[batch.task].loss, recipe, device, handle.penalties).backward()
        model.zero_grad(set_to_none=True)
        dev.set_rng_state(state)
        return kept.bytes

    def training(
        self, model: Any, handle: Any, plan: train.TrainingPlan, memory: dev.Memory, device: torch.device, root: Path
    ) -> train.Trained:
        """Train; after each epoch validate if the recipe says so, and keep the best weights if they are to be
        reported."""
        recipe = self.run.recipe
        per_epoch = sum(plan.sizes.values())
        best = self.folder.path / "best.safetensors"
        marks = self.folder.path / "best.json"
        curve = TrainingCurve(self.folder, plan.steps)

        def on_step(step: int, point: dict[str, Any]) -> None:
            self.step = step
            curve.add(step, point)
            now = (step, plan.steps, point["loss"], step / per_epoch, point["examples"])
            self.report(RunEvent("step", self.run.id, point["task"], *now))
            if recipe.validate_ == "epoch" and (step % per_epoch == 0 or step == plan.steps):
                mean = self.validate(model, root, device, step)
                model.train()
                if recipe.select == "best" and mean > (records.read_lines(marks) or [{"mean": -1.0}])[-1]["mean"]:
                    self.hold.check()
                    handle.save(best)
                    self.folder.append(marks, {"step": step, "mean": mean})

        with memory.phase("train"):
            done = train.train(
                model,
                plan,
                recipe,
                seed=self.run.seed,
                device=device,
                penalties=handle.penalties,
                update_listeners=handle.update_listeners,
                checkpoint=self.folder.checkpoint,
                on_step=on_step,
                on_resume=self.resumed,
                should_stop=lambda: self.stop or self.hold.stop,
                before_save=self.hold.check,
            )
        if best.exists():
            handle.load(best)
            self.facts["selected"] = records.read_lines(marks)[-1]
        return done

    def resumed(self, step: int) -> None:
        """Go on from an earlier attempt's checkpoint: forget what it wrote after it, note the piece that it did."""
        self.start_step = self.step = step
        for path in (self.folder.curve, self.folder.path / "validation.jsonl"):
            rows = records.read_lines(path)
            if kept := [row for row in rows if row["step"] <= step]:
                records.write_bytes(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
            elif rows:
                path.unlink()
        before = records.read_lines(self.folder.segments)
        begun = before[-1]["end_step"] if before else 0
        if begun < step:  # it was killed before it could say so
            lost = {"start_step": begun, "end_step": step, "host": None, "job_id": None, "start": None, "end": None}
            self.folder.append(self.folder.segments, {**lost, "reason": "killed"})

    def validate(self, model: Any, root: Path, device: torch.device, step: int) -> float:
        """Evaluate on the validation splits, keep the scores beside the curve, and return their mean."""
        points = {}
        for task in self.run.task_list:
            data = self.prepared(root, task, "validation")
            said = self.predicted(model, task, data, device)
            points[task.name] = task.score(data.examples, said)[task.metric]
        mean = sum(points.values()) / len(points)
        self.folder.append(self.folder.path / "validation.jsonl", {"step": step, "mean": mean, "scores": points})
        return mean

    def scored(self, model: Any, task: Task, root: Path, device: torch.device) -> Score:
        """Predict, keep the predictions, then score: a metric that fails loses nothing, it can be computed again from
        them."""
        data = self.prepared(root, task, task.report_split)
        said = self.predicted(model, task, data, device)
        rows = [
            {"id": e.id, "prediction": p, "reference": e.reference} for e, p in zip(data.examples, said, strict=True)
        ]
        self.folder.write_predictions(task.name, rows)
        tuning = self.run.recipe.evaluate == "tuning"
        score = score_rows(task, rows, held_out.name(task) if tuning else task.report_split)
        shown = f"{score.metrics[task.metric]:.2f}" if score.status == "done" else f"failed ({score.error})"
        self.report(RunEvent("score", self.run.id, f"{task.label} {task.metric} {shown}"))
        return score

    def predicted(self, model: Any, task: Task, data: TokenizedSplit, device: torch.device) -> list[str]:
        """Predict, and stop between two batches if the run is to."""

        def stop(done: int, total: int) -> None:
            if reason := self.stop or self.hold.stop:
                raise KeyboardInterrupt(reason)

        return evaluate.predict(model, task, data, _text(self.run.backbone), self.run.recipe, device, stop)

    def end_segment(self, reason: str) -> None:
        """Note the piece of training that this process did, once."""
        if self.segment_ended:
            return
        self.segment_ended = True
        place = environment()
        self.folder.append(
            self.folder.segments,
            {
                "start_step": self.start_step,
                "end_step": self.step,
                "host": place["host"],
                "job_id": place["job_id"],
                "start": self.started,
                "end": records.now(),
                "reason": reason,
            },
        )

    def failure(self, error: Exception) -> Record:
        """Return the record of a run that failed, with the end of its traceback."""
        cause = records.classify(error)
        self.end_segment(cause)
        told = "".join(traceback.format_exception(error))
        with records.explain_write_errors(self.folder.log):
            self.folder.log.write_text(told, encoding="utf-8")
        failure = Failure(
            phase=self.phase,
            step=self.step or None,
            type=type(error).__name__,
            message=str(error)[:2000],
            tail=told.splitlines()[-20:],
        )
        return self.ended(status="failed", cause=cause, error=failure)

    def ended(self, **outcome: Any) -> Record:
        """Return the record with what is known."""
        return Record(
            id=self.folder.id,
            run=self.run,
            **self.facts,
            **outcome,
            segments=records.read_lines(self.folder.segments),
            limited=self.run.recipe.limit is not None,
            finished=records.now(),
        )


def build(run: Run, feat_dim: int, device: Any) -> tuple[Any, Any]:
    """Return a run's model with the method in it, at its start values, and the method's handle."""
    dev.seed_everything(run.seed)
    model = backbones.build(run.backbone, feat_dim=feat_dim, n_boxes=run.recipe.n_boxes, device=device, seed=run.seed)
    model.set_dropout(run.recipe.dropout)
    chosen = methods.get(run.method, **run.overrides)
    return model, methods.attach(model, chosen, tasks=tuple(task.name for task in run.task_list))


def score_rows(task: Task, rows: list[dict[str, Any]], split: str) -> Score:
    """Score kept predictions of a split; whatever a metric raises becomes the score's error."""
    from bench.tasks import Example

    examples = [Example(row["id"], "", (), (), row["reference"]) for row in rows]
    shared: dict[str, Any] = {"split": split, "metric": task.metric, "n": len(rows)}
    try:
        return Score(status="done", metrics=task.score(examples, [row["prediction"] for row in rows]), **shared)
    except Exception as error:
        return Score(status="failed", error=f"{type(error).__name__}: {error}", **shared)


def _parameters(count: Any) -> dict[str, float]:
    shared = ("trainable", "total", "new", "unfrozen", "projector", "percent", "percent_of_backbone")
    return {key: getattr(count, key) for key in shared}


def _times(done: train.Trained) -> dict[str, float | None]:
    steps = sorted(done.step_seconds)
    return {
        "train_seconds": done.seconds,
        "step_seconds": steps[len(steps) // 2] if steps else None,
        "samples_per_second": done.examples / done.seconds if done.seconds else None,
        "steps": done.steps,
    }
