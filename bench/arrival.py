"""The check on arrival: what a careful person tries on a new machine before a table is trained on real data.

Everything is done with the functions that runs use, on a few examples, in a folder that is thrown away.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from bench import backbones, evaluate, stages, suites, train
from bench import device as dev
from bench.backbones.tokenization import Tokenizer
from bench.checkpoint import Checkpoint, changing_tensors
from bench.config import Execution, Run, is_mini, resolve
from bench.data.batches import TokenizedSplit
from bench.data.check import splits_of
from bench.data.feature_inspection import FeatureInspector
from bench.data.features import FeatureStore
from bench.data.roots import is_synthetic, locate
from bench.errors import UsageError
from bench.planning.counts import training_plan
from bench.planning.memory import training_memory
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.tasks import Example, Task
from methods.core.errors import MethodError

T = TypeVar("T")
METHODS = ("vl-pet-large", "vl-adapter", "lora")  # those that are tried if none are asked for
UPDATES, STOPPED_AFTER = 10, 5
CPU_BATCH = 8  # where there is no GPU, updates of a large model are tried on so few examples
SAMPLED_FILES = 50  # feature files of a split that are read
PREDICTED = 8  # examples of the beam search
GIB = 2**30


@dataclass(frozen=True)
class CheckResult:
    """What one check gave.

    Attributes:
        check: what was checked.
        state: "ok", "fault", or "not tried" where an earlier fault is in the way.
        detail: what was seen, or what is wrong.
        mend: how to mend a fault, "" where there is none or ``detail`` says it.
    """

    check: str
    state: Literal["ok", "fault", "not tried"]
    detail: str
    mend: str = ""


class Fault(Exception):
    """Something that a real run must not meet; ``mend`` says how to mend it."""

    def __init__(self, detail: str, mend: str = "") -> None:
        super().__init__(detail)
        self.mend = mend


@dataclass(frozen=True)
class Tried:
    """A short training: the trained tensors on the CPU, loss and seconds of every update by task, and peak memory."""

    model: nn.Module
    tensors: dict[str, Tensor]
    losses: list[float]
    seconds: dict[str, list[float]]
    memory: dev.Memory


@dataclass
class Arrival:
    """The check of one backbone and data root.

    Attributes:
        backbone: name or folder of the backbone.
        data: logical name of the data root, whose folder is in ``execution``.
        suite: name of the suite.
        methods: names of the methods that are tried.
        execution: device, threads, folders of data roots.
        partial: whether a data root may have fewer examples than are published.
        progress: receives lines on where the check is, "" at its end.
    """

    backbone: str
    data: str
    suite: str
    methods: Sequence[str]
    execution: Execution
    partial: bool = False
    progress: Callable[[str], None] = lambda line: None
    _train: dict[str, list[Example]] = field(default_factory=dict)
    _validation: dict[str, list[Example]] = field(default_factory=dict)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _seconds_of_prediction: float = 0.0

    def run(self, method: str) -> Run:
        """Return the run of a table of the paper, or of the miniature suite: the recipe that goes with the backbone."""
        return resolve(self.backbone, method, self.suite, data=self.data)

    def results(self) -> Iterator[CheckResult]:
        """Do the checks one after the other, and yield what each gave.

        Raises:
            UsageError, MethodError: an unknown name; nothing was tried.
        """
        runs = {method: self.run(method) for method in self.methods}
        with tempfile.TemporaryDirectory(prefix="vlpet-doctor-") as folder:
            yield from self._results(runs, Path(folder))
        self.progress("")

    def _results(self, runs: Mapping[str, Run], folder: Path) -> Iterator[CheckResult]:
        first = next(iter(runs.values()))
        context = RunContext(first, self.execution, RunDir(folder, first.id))
        self._machine = stages.prepare_machine(context)
        weights, tokenizer = self._try("weights and tokeniser", self._weights, first)
        yield weights
        root = locate(self.data, self.suite, self.execution.data)
        self._is_synthetic = is_synthetic(root)
        self._store = FeatureStore(root, suites.get(self.suite).features.kind, n_frames=first.recipe.n_frames)
        data_is_read = True
        for task in first.task_list:
            result, _ = self._try(f"data of {task.name}", self._read, first, task, root)
            data_is_read &= bool(self._train.get(task.name))
            yield result
        if tokenizer is None or not data_is_read:
            for name in (*(f"{UPDATES} updates of {method}" for method in runs), "beam search", "resumed checkpoint"):
                yield CheckResult(name, "not tried", "weights, tokeniser or data are at fault")
            return
        tried: dict[str, Tried] = {}
        for method, run in runs.items():
            result, trained = self._try(f"{UPDATES} updates of {method}", self._updates, run, tokenizer)
            yield result
            if trained:
                tried[method] = trained
                if len(tried) == 1:
                    yield self._try("beam search", self._beam_search, run, tokenizer, trained.model)[0]
                    yield self._try("resumed checkpoint", self._resume, run, tokenizer, trained, folder)[0]
            if trained:
                yield self._try(f"memory of {method}", self._memory, run, trained)[0]
                yield self._try(f"time of {method}", self._time, run, trained)[0]

    def _try(self, check: str, function: Callable[..., tuple[str, T]], *arguments: Any) -> tuple[CheckResult, T | None]:
        """Return what a check gave and its second output; whatever it raises is a fault."""
        self.progress(check)
        try:
            detail, output = function(*arguments)
            return CheckResult(check, "ok", detail), output
        except Fault as fault:
            return CheckResult(check, "fault", str(fault), fault.mend), None
        except (UsageError, MethodError) as fault:
            return CheckResult(check, "fault", str(fault)), None
        except torch.OutOfMemoryError as error:
            mend = "use a GPU with more memory, or a smaller --set batch_size, which is another recipe"
            return CheckResult(check, "fault", str(error).splitlines()[0], mend), None
        except Exception as error:
            mend = "a fault of the suite or of the installation: `python -m bench doctor` has what a report needs"
            return CheckResult(check, "fault", f"{type(error).__name__}: {error}".splitlines()[0], mend), None

    def _weights(self, run: Run) -> tuple[str, Tokenizer]:
        begun = time.monotonic()
        backbones.require_checkpoint(run.backbone)
        tokenizer = backbones.tokenizer(run.backbone)
        return f"{tokenizer.vocab_size:,} tokens, loaded in {time.monotonic() - begun:.1f} s", tokenizer

    def _read(self, run: Run, task: Task, root: Path) -> tuple[str, None]:
        """Read the splits that a run reads, count them, and look at some of their feature files."""
        inspector = FeatureInspector(root, self._store.kind)
        lines, lacking = [], []
        largest = max(t.batch_size(self._batch_size(run)) for t in run.task_list)
        for split in dict.fromkeys([*splits_of(run, task), "validation"]):
            self.progress(f"reading {task.name} {split}")
            examples = task.read(root, split)
            if not examples:
                raise Fault(f"{task.name} {split} has no examples ({task.splits[split]})", "fetch the annotations")
            inspector.inspect(
                examples[:: math.ceil(len(examples) / SAMPLED_FILES)], complete=True, progress=lambda done, total: None
            )
            kept = self._train if split == "train" else self._validation
            kept[task.name] = examples[: largest if split == "train" else PREDICTED]
            self._counts[task.name, split] = len(examples)
            published = task.official_sizes.get(split, len(examples))
            lines.append(f"{len(examples):,} {split}")
            if len(examples) != published and not self._is_synthetic:
                lacking.append(f"{len(examples):,} of {published:,} {split} examples ({task.splits[split]})")
        if lacking and not self.partial:
            raise Fault(f"incomplete: {', '.join(lacking)}", "fetch the files again, or say --partial")
        columns = self._store.load(self._train[task.name][0]).shape[-1]
        return f"{', '.join([*lines, *lacking])}; {columns} feature columns", None

    def _batch_size(self, run: Run) -> int:
        """Return the recipe's batch size, or a small one where a large model has no GPU."""
        is_slow = self._machine.device.type == "cpu" and not is_mini(run.backbone)
        return min(run.recipe.batch_size, CPU_BATCH) if is_slow else run.recipe.batch_size

    def _updates(self, run: Run, tokenizer: Tokenizer) -> tuple[str, Tried]:
        tried = self._train_for(run, tokenizer)
        still = [name for name, tensor in tried.tensors.items() if not torch.isfinite(tensor).all()]
        if still:
            raise Fault(f"{still[0]} is not finite after {UPDATES} updates", "look at the features: NaN or infinite?")
        return f"loss {tried.losses[0]:.2f} to {tried.losses[-1]:.2f}, {', '.join(tried.seconds)}", tried

    def _train_for(
        self, run: Run, tokenizer: Tokenizer, checkpoint: Checkpoint | None = None, stop_after: int | None = None
    ) -> Tried:
        """Train for UPDATES updates, or until ``stop_after`` are made and the checkpoint is written."""
        recipe = run.recipe.model_copy(
            update={"steps": UPDATES, "batch_size": self._batch_size(run), "checkpoint_every": 0}
        )
        run = run.model_copy(update={"recipe": recipe})
        data = {task.name: self._split(run, task, self._train[task.name], tokenizer) for task in run.task_list}
        columns = self._store.load(next(iter(self._train.values()))[0]).shape[-1]
        model = stages.seeded_model(run, int(columns), "cpu")
        handle = stages.with_method(run, model)
        model.to(self._machine.device)
        plan = train.TrainingPlan.of(run.task_list, data, recipe)
        points: list[dict[str, Any]] = []
        memory = dev.Memory(self._machine.device)
        with memory.phase("train"):
            try:
                trained = train.train(
                    model,
                    plan,
                    recipe,
                    seed=run.seed,
                    device=self._machine.device,
                    penalties=handle.penalties,
                    update_listeners=handle.update_listeners,
                    checkpoint=checkpoint,
                    on_step=lambda step, point: points.append(point),
                    should_stop=lambda: "stopped on purpose" if len(points) == stop_after else None,
                )
            except KeyboardInterrupt:
                if stop_after is None:
                    raise
                trained = train.Trained()
        seconds: dict[str, list[float]] = {}
        for point, taken in zip(points[1:], trained.step_seconds[1 - len(points) :], strict=False):  # the first warms up
            seconds.setdefault(point["task"], []).append(taken / point["examples"])
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in changing_tensors(model).items()}
        return Tried(model, tensors, [point["loss"] for point in points], seconds, memory)

    def _split(self, run: Run, task: Task, examples: list[Example], tokenizer: Tokenizer) -> TokenizedSplit:
        return TokenizedSplit(task, examples, tokenizer, self._store, prefix=run.recipe.task_prefix)

    def _beam_search(self, run: Run, tokenizer: Tokenizer, model: Any) -> tuple[str, None]:
        generating = [task for task in run.task_list if task.decode.mode == "generate"]
        task = max(generating, key=lambda task: task.decode.beams or run.recipe.beams)
        split = self._split(run, task, self._validation[task.name], tokenizer)
        begun = dev.clock(self._machine.device)
        predictions = evaluate.predict(model, task, split, tokenizer, run.recipe, self._machine.device)
        self._seconds_of_prediction = (dev.clock(self._machine.device) - begun) / len(predictions)
        beams = task.decode.beams or run.recipe.beams
        return f"{task.name}, {beams} beams, {len(predictions)} examples: {predictions[0][:60]!r}", None

    def _resume(self, run: Run, tokenizer: Tokenizer, undisturbed: Tried, folder: Path) -> tuple[str, None]:
        """Stop a training, go on from its checkpoint, and compare it with the one that was never stopped."""
        rejected: list[str] = []
        checkpoint = Checkpoint(folder / "checkpoint.pt", run.id, {}, reject=rejected.append)
        self._train_for(run, tokenizer, checkpoint, stop_after=STOPPED_AFTER)
        resumed = self._train_for(run, tokenizer, checkpoint)
        if rejected or len(resumed.losses) != UPDATES - STOPPED_AFTER:
            raise Fault(f"the checkpoint {'; '.join(rejected) or 'was not gone on from'}", "is the disk full?")
        pairs = [(tensor, resumed.tensors[name]) for name, tensor in undisturbed.tensors.items()]
        if all(torch.equal(ours, theirs) for ours, theirs in pairs):
            return f"stopped after {STOPPED_AFTER} updates, the same weights bit for bit after {UPDATES}", None
        largest = max(float((ours - theirs).abs().max()) for ours, theirs in pairs if ours.is_floating_point())
        detail = f"the weights of a resumed training differ by up to {largest:.1g}"
        if self._machine.device.type == "cuda" and all(
            torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5) for ours, theirs in pairs
        ):
            return f"{detail}: this GPU does not add in a fixed order", None
        raise Fault(detail, "the machine computes differently each time: try --threads 1, then another machine")

    def _memory(self, run: Run, tried: Tried) -> tuple[str, None]:
        """Say what a training takes: as measured on a GPU, else from shapes."""
        if self._machine.device.type == "cuda":
            peak = tried.memory.phases["train"]["allocated"] or 0
            room = torch.cuda.get_device_properties(self._machine.device).total_memory
            return f"{peak / GIB:.1f} of {room / GIB:.1f} GiB at batch size {run.recipe.batch_size}, measured", None
        parts = training_memory(run, int(self._store.load(next(iter(self._train.values()))[0]).shape[-1]))
        split = ", ".join(f"{parts[key] / GIB:.2f} {key}" for key in ("weights", "gradients", "optimizer", "activations"))
        return f"{parts['total'] / GIB:.2f} GiB at batch size {run.recipe.batch_size}, from shapes ({split})", None

    def _time(self, run: Run, tried: Tried) -> tuple[str, None]:
        """Say what a run of the recipe takes here, from the seconds of the updates and of the beam search."""
        counts: dict[str, int | None] = {t.name: self._examples(t, "train") for t in run.task_list}
        plan = training_plan(run, counts)
        per_epoch = sum(plan.sizes.values())
        mean = fmean(taken for times in tried.seconds.values() for taken in times)
        updates = (plan.steps / per_epoch) * sum(
            len(examples) * fmean(tried.seconds.get(name, [mean])) for name, examples in plan.data.items()
        )
        validations = math.ceil(plan.steps / per_epoch) if run.recipe.validate_ == "epoch" else 0
        predicted = sum(
            validations * self._examples(task, "validation") + self._examples(task, task.report_split)
            for task in run.task_list
        )
        predictions = predicted * self._seconds_of_prediction
        rate = 1 / mean
        return (
            f"{rate:,.1f} examples/s; a run of {plan.steps:,} updates takes {(updates + predictions) / 3600:,.1f} h on "
            f"{dev.hardware_key(self._machine.device)}: updates {updates / 3600:,.1f} h, {predicted:,} predictions at "
            f"most {predictions / 3600:,.1f} h"
        ), None

    def _examples(self, task: Task, split: str) -> int:
        """Return the published number of examples of a split, or else that of the data root."""
        counted = self._counts[task.name, split]
        return counted if self._is_synthetic else task.official_sizes.get(split, counted)
