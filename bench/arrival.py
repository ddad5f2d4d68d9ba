"""The check on arrival: what a careful person tries on a new machine before a table is trained on real data.

Everything is done with the functions that runs use, on a few examples, in a folder that is thrown away.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from bench import backbones, stages, suites, train
from bench import device as dev
from bench.checkpoint import changing_tensors
from bench.config import Execution, Run, is_mini, resolve
from bench.data import example_tables
from bench.data.check import splits_of
from bench.data.feature_inspection import FeatureInspector
from bench.data.features import FeatureStore
from bench.data.roots import is_synthetic, locate
from bench.errors import UsageError
from bench.events import RunEvent, RunHold
from bench.planning.counts import training_plan
from bench.planning.memory import training_memory
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.stage_outputs import AttachedModel, DataRoot, Machine
from bench.tasks import Task
from methods.core.errors import MethodError

T = TypeVar("T")
METHODS = ("vl-pet-large", "vl-adapter", "lora")  # those that are tried if none are asked for
UPDATES, STOPPED_AFTER = 10, 5
CPU_BATCH = 4  # where there is no GPU, updates of a large model are tried on so few examples
SAMPLED_FILES = 50  # examples of a split whose feature files are read
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
class ShortTraining:
    """A training of a few updates.

    Attributes:
        attached: the trained model.
        tensors: what was trained, on the CPU.
        updates: task, loss and examples of every update.
        seconds: of an example, by task, in every update but the first.
        peak: the highest bytes allocated on a GPU; None elsewhere.
    """

    attached: AttachedModel
    tensors: dict[str, Tensor]
    updates: list[RunEvent]
    seconds: dict[str, list[float]]
    peak: int | None


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
    _counts: dict[tuple[str, str], int] = field(init=False, default_factory=dict)
    _prediction: float = field(init=False, default=0.0)  # seconds of one, in the beam search
    _columns: int = field(init=False, default=0)  # of the features
    _folder: Path = field(init=False)
    _machine: Machine = field(init=False)
    _root: DataRoot = field(init=False)

    def results(self) -> Iterator[CheckResult]:
        """Do the checks one after the other, and yield what each gave.

        Raises:
            UsageError, MethodError: an unknown name, a data root that is not there; nothing was tried.
        """
        runs = {name: resolve(self.backbone, name, self.suite, data=self.data) for name in self.methods}
        root = locate(self.data, self.suite, self.execution.data)
        self._root = DataRoot(self.data, root, "", is_synthetic(root))
        with tempfile.TemporaryDirectory(prefix="vlpet-doctor-") as folder:
            self._folder = Path(folder)
            first = next(iter(runs.values()))
            self._machine = stages.prepare_machine(RunContext(first, self.execution, RunDir(self._folder, first.id)))
            yield from self._results(runs, first)
        self.progress("")

    def _results(self, runs: Mapping[str, Run], first: Run) -> Iterator[CheckResult]:
        weights, is_usable = self._try("weights and tokeniser", self._weights, first)
        yield weights
        for task in first.task_list:
            result, is_read = self._try(f"data of {task.name}", self._read, first, task)
            is_usable = is_usable and (is_read or (task.name, "complete") in self._counts)
            yield result
        after = ("beam search and metric", "resumed checkpoint")
        if not is_usable:
            for name in (*(f"{UPDATES} updates of {method}" for method in runs), *after):
                yield CheckResult(name, "not tried", "weights, tokeniser or data are at fault")
            return
        is_first = True
        for method, run in runs.items():
            result, training = self._try(f"{UPDATES} updates of {method}", self._updates, run)
            yield result
            if training is None:
                continue
            if is_first:
                yield self._try(after[0], self._beam_search, run, training)[0]
                yield self._try(after[1], self._resume, run, training)[0]
                is_first = False
            yield self._try(f"memory of {method}", self._memory, run, training)[0]
            yield self._try(f"time of {method}", self._time, run, training)[0]

    def _try(self, check: str, function: Callable[..., tuple[str, T]], *arguments: Any) -> tuple[CheckResult, T | None]:
        """Return what a check gave and its second output; whatever it raises is a fault."""
        self.progress(check)
        mend = ""
        try:
            detail, output = function(*arguments)
            return CheckResult(check, "ok", detail), output
        except Fault as fault:
            detail, mend = str(fault), fault.mend
        except (UsageError, MethodError) as error:
            detail = str(error)
        except torch.OutOfMemoryError as error:
            detail, mend = str(error), "use a GPU with more memory; a smaller batch_size is another recipe"
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            mend = "report it as a fault of the suite, with what `python -m bench doctor` prints"
        return CheckResult(check, "fault", detail.splitlines()[0], mend), None

    def _weights(self, run: Run) -> tuple[str, bool]:
        begun = time.monotonic()
        backbones.require_checkpoint(run.backbone)
        tokens = backbones.tokenizer(run.backbone).vocab_size
        return f"{tokens:,} tokens, loaded in {time.monotonic() - begun:.1f} s", True

    def _read(self, run: Run, task: Task) -> tuple[str, bool]:
        """Read the splits that a run reads, count them, and look at some of their feature files."""
        root = self._root.root
        store = FeatureStore(root, suites.get(self.suite).features.kind, n_frames=run.recipe.n_frames)
        inspector = FeatureInspector(root, store.kind)
        lines, lacking = [], []
        for split in dict.fromkeys([*splits_of(run, task), "validation"]):
            self.progress(f"reading {task.name} {split}")
            examples = example_tables.read(task, root, split)
            if not examples:
                raise Fault(f"{task.name} {split} has no examples ({task.splits[split]})", "fetch the annotations")
            sample = examples[:: math.ceil(len(examples) / SAMPLED_FILES)]
            inspector.inspect(sample, complete=True, progress=lambda done, total: None)
            self._columns = int(store.load(examples[0]).shape[-1])
            self._counts[task.name, split] = len(examples)
            published = task.official_sizes.get(split, len(examples))
            lines.append(f"{len(examples):,} {split}")
            if len(examples) != published and not self._root.synthetic:
                lacking.append(f"{len(examples):,} of {published:,} {split} examples ({task.splits[split]})")
        self._counts[task.name, "complete"] = 1
        if lacking and not self.partial:
            raise Fault(f"incomplete: {', '.join(lacking)}", "fetch the files again, or say --partial")
        return f"{', '.join(lines)} examples; {self._columns} feature columns", True

    def _updates(self, run: Run) -> tuple[str, ShortTraining]:
        training = self._train(run, self._folder / "undisturbed")
        for name, tensor in training.tensors.items():
            if not torch.isfinite(tensor).all():
                raise Fault(f"{name} is not finite after {UPDATES} updates", "look for large values in the features")
        losses = [event.loss for event in training.updates]
        size = self._short(run).recipe.batch_size
        return f"loss {losses[0]:.2f} to {losses[-1]:.2f} at batch size {size}; {', '.join(training.seconds)}", training

    def _short(self, run: Run, checkpoint_every: int = 0) -> Run:
        """Return a run of a few updates at the batch size of the recipe, or a small one where a large model has no
        GPU."""
        is_slow = self._machine.device.type == "cpu" and not is_mini(run.backbone)
        size = min(run.recipe.batch_size, CPU_BATCH) if is_slow else run.recipe.batch_size
        short = {
            "steps": UPDATES,
            "batch_size": size,
            "checkpoint_every": checkpoint_every,
            "validate_": "never",
            "select": "last",
        }
        limit = max(task.batch_size(size) for task in run.task_list)
        return run.model_copy(update={"recipe": run.recipe.model_copy(update={**short, "limit": limit})})

    def _train(self, run: Run, folder: Path, stop_after: int | None = None) -> ShortTraining:
        """Train for UPDATES updates, from the checkpoint in the folder where there is one.

        With ``stop_after`` the training is stopped when so many are made, which writes the checkpoint.
        """
        run, hold, updates = self._short(run, checkpoint_every=stop_after or 0), RunHold(), []

        def listen(event: RunEvent) -> None:
            if event.kind == "step":
                updates.append(event)
                hold.stop = "stopped on purpose" if len(updates) == stop_after else None

        context = RunContext(run, self.execution, RunDir(folder, run.id), listen, hold)
        context.folder.begin(run)
        machine = replace(self._machine, memory=dev.Memory(self._machine.device))
        data = stages.read_training_sets(context, self._root)
        model = stages.seeded_model(run, self._columns, "cpu")
        attached = stages.attach_method(context, model, machine)
        plan = train.TrainingPlan.of(run.task_list, data, run.recipe)
        seconds: dict[str, list[float]] = {}
        try:
            parts = stages.micro_batches(context, attached)
            trained = stages.train_model(context, attached, plan, self._root, {}, machine, parts, 0).trained
        except KeyboardInterrupt:
            if hold.stop is None:
                raise
        else:
            latest = trained.step_seconds[-len(updates) :]
            for event, taken in list(zip(updates, latest, strict=True))[1:]:  # the first warms up
                seconds.setdefault(event.message, []).append(taken / event.examples)
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in changing_tensors(model).items()}
        peak = machine.memory.phases["train"]["allocated"]
        return ShortTraining(attached, tensors, updates, seconds, peak)

    def _beam_search(self, run: Run, training: ShortTraining) -> tuple[str, bool]:
        """Decode a few validation examples of the task with the widest beams, and score them."""
        generating = [task for task in run.task_list if task.decode.mode == "generate"]
        task = max(generating, key=lambda task: task.decode.beams or run.recipe.beams)
        recipe = run.recipe.model_copy(update={"limit": PREDICTED})
        short = run.model_copy(update={"recipe": recipe, "tasks": (task.name,)})
        context = RunContext(short, self.execution, RunDir(self._folder, short.id))
        model, machine = training.attached.model, self._machine
        predicted = stages.evaluate_tasks(context, model, self._root, machine, split="validation")
        (score,) = stages.score_tasks(context, predicted, machine).scores.values()
        if score.value is None:
            raise Fault(f"{task.name} {task.metric}: {score.error}", "`python -m bench doctor` says if Java runs")
        rows = predicted.tasks[0].rows
        self._prediction = predicted.seconds / len(rows)
        beams = task.decode.beams or recipe.beams
        return f"{task.name}, {beams} beams: {rows[0]['prediction'][:50]!r}; {task.metric} {score.value:.2f}", True

    def _resume(self, run: Run, undisturbed: ShortTraining) -> tuple[str, bool]:
        """Stop a training, go on from its checkpoint, and compare it with the one that was never stopped."""
        folder = self._folder / "stopped"
        self._train(run, folder, stop_after=STOPPED_AFTER)
        resumed = self._train(run, folder)
        if len(resumed.updates) != UPDATES - STOPPED_AFTER:
            raise Fault("the checkpoint was not gone on from", "is there room in the folder of temporary files?")
        pairs = [(tensor, resumed.tensors[name]) for name, tensor in undisturbed.tensors.items()]
        if all(torch.equal(ours, theirs) for ours, theirs in pairs):
            return f"stopped after {STOPPED_AFTER} updates: after {UPDATES} the same weights bit for bit", True
        largest = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
        detail = f"the weights of a resumed training differ by up to {largest:.1g}"
        is_close = all(torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5) for ours, theirs in pairs)
        if self._machine.device.type == "cuda" and is_close:
            return f"{detail}: this GPU does not add in a fixed order", True
        raise Fault(detail, "this machine computes differently each time: try --threads 1")

    def _memory(self, run: Run, training: ShortTraining) -> tuple[str, bool]:
        """Say what a training takes: as measured on a GPU, else from shapes."""
        size = run.recipe.batch_size
        if training.peak is not None:
            room = torch.cuda.get_device_properties(self._machine.device).total_memory
            return f"{training.peak / GIB:.1f} of {room / GIB:.1f} GiB at batch size {size}, measured", True
        parts = training_memory(run, self._columns)
        names = ("weights", "gradients", "optimizer", "activations")
        split = ", ".join(f"{parts[key] / GIB:.2f} {key}" for key in names)
        return f"{parts['total'] / GIB:.2f} GiB at batch size {size}, from shapes ({split})", True

    def _time(self, run: Run, training: ShortTraining) -> tuple[str, bool]:
        """Say what a run of the recipe takes here, from the seconds of the updates and of the beam search."""
        plan = training_plan(run, {task.name: self._examples(task, "train") for task in run.task_list})
        epochs = plan.steps / sum(plan.sizes.values())
        mean = fmean(taken for times in training.seconds.values() for taken in times)
        updates = epochs * sum(len(data) * fmean(training.seconds.get(n, [mean])) for n, data in plan.data.items())
        validations = math.ceil(epochs) if run.recipe.validate_ == "epoch" else 0
        predicted = sum(
            validations * self._examples(task, "validation") + self._examples(task, task.report_split)
            for task in run.task_list
        )
        predictions = predicted * self._prediction
        return (
            f"{1 / mean:,.1f} examples/s on {dev.hardware_key(self._machine.device)}; a run of {plan.steps:,} updates "
            f"takes {_hours(updates + predictions)}, of it at most {_hours(predictions)} for {predicted:,} predictions"
        ), True

    def _examples(self, task: Task, split: str) -> int:
        """Return the published number of examples of a split, or else that of the data root."""
        counted = self._counts[task.name, split]
        return counted if self._root.synthetic else task.official_sizes.get(split, counted)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
