"""What the published experiments cost on many GPUs: ``python -m benchmarks.scaling`` writes docs/scaling.md.

Nothing is run. The page is computed from the measured throughputs of one GPU (bench/planning/gpu.json), the figures of
this machine (benchmarks/figures.json), and the published rates of other GPUs.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from bench import backbones, suites
from bench.cli.methods import count, feature_columns
from bench.config import Run
from bench.planning import throughput
from bench.planning.counts import ExampleCounts, training_plan
from bench.planning.disk import disk
from bench.planning.memory import TARGET, TEXT, visual_shape
from bench.planning.throughput import multiplications
from bench.sweep.expand import expand
from bench.sweep.spec import load

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
SWEEP = "paper-table2-bart"
NUMBERS = (1, 8, 64)
PER_NODE = 8
PRECISIONS = ("fp32", "bf16")
IMAGE_BYTES = 49 * 2048 * 4
IMAGES = 123_287 + 82_374 + 398 + 2 * (86_373 + 6_982 + 6_967)  # COCO, GQA's of Visual Genome, testdev, NLVR2
EVAL_BATCH = 200
NVME = 7e9  # bytes per second that one PCIe 4.0 NVMe disk reads at most (four lanes of 2 GB/s, less the protocol)


@dataclass(frozen=True)
class Gpu:
    """The published peak rates of a GPU: dense operations per second by precision, bytes per second of its memory, and
    of its links to the others of a node in one direction."""

    name: str
    fp32: float
    bf16: float
    memory: float
    link: float

    def peak(self, precision: str) -> float:
        """Return the peak rate of matrix products."""
        return self.bf16 if precision == "bf16" else self.fp32


#: NVIDIA A100 datasheet (nvidia-1758950-r4); NVIDIA H100 datasheet and Hopper architecture whitepaper; H200 datasheet:
#: the SXM cards, without sparsity. fp32 is without TF32, as torch multiplies by default.
A100 = Gpu("A100 80 GB", 19.5e12, 312e12, 2.039e12, 300e9)
H100 = Gpu("H100", 66.9e12, 989.4e12, 3.35e12, 450e9)
H200 = Gpu("H200", 66.9e12, 989.4e12, 4.8e12, 450e9)
MEASURED = {"NVIDIA H200": H200}


@dataclass(frozen=True)
class RunCost:
    """What one run takes on one GPU.

    Attributes:
        updates: their number.
        examples: the number of examples in all of them.
        images: the number of feature arrays that they read.
        step_seconds: of all updates together.
        exchanged: bytes of gradients that GPUs exchange in an update where several share it.
        evaluation_seconds: the least that the evaluation takes, by its arithmetic and the weights that it reads.
    """

    updates: int
    examples: float
    images: float
    step_seconds: float
    exchanged: float
    evaluation_seconds: float

    def seconds(self, gpus: int, link: float) -> float:
        """Return the time of the run on some GPUs of a node that share each batch."""
        exchange = self.updates * 2 * (gpus - 1) / gpus * self.exchanged / link
        return (self.step_seconds + self.evaluation_seconds) / gpus + exchange


def reference_operations() -> float:
    """Return the operations of an update of the table of throughputs per example, of matrix products alone: forward,
    and for the gradient of what enters them."""
    machine = throughput.table()["machine"]
    sizes = (machine[key] for key in ("text", "visual", "target", "features"))
    return 4 * multiplications(backbones.shape(machine["backbone"]), *sizes)


def step_factor(method: str, gpu: Gpu, precision: str) -> float:
    """Return how many times as long an update takes on a GPU as on the one that was measured.

    The matrix products are taken to run at the peak rate of both, and the rest of the measured time, which is
    elementwise work and dropout, to be bound by the memory of both.
    """
    rows = [row for row in throughput.table()["rows"] if row["precision"] == precision]
    rows = [row for row in rows if row["method"] == method] or rows
    seconds = fmean(1 / row["examples_per_second"] for row in rows)
    measured = MEASURED[throughput.table()["machine"]["device"]]
    products = min(seconds, reference_operations() / measured.peak(precision))
    elsewhere = reference_operations() / gpu.peak(precision) + (seconds - products) * measured.memory / gpu.memory
    return elsewhere / seconds


@cache
def planned_runs() -> tuple[Run, ...]:
    """Return the runs of the published table."""
    return tuple(cell.run for cell in expand(load(SWEEP)) if cell.run)


@cache
def trained_examples(run: Run) -> tuple[int, dict[str, int]]:
    """Return the number of updates of a run, and of the examples of every task in all of them."""
    counts = ExampleCounts({})
    plan = training_plan(run, {task.name: counts.count(run, task, "train").examples for task in run.task_list})
    passes = plan.steps / sum(plan.sizes.values())
    return plan.steps, {name: int(passes * len(data)) for name, data in plan.data.items()}


@cache
def trainable(method: str) -> int:
    """Return the number of parameters that a method trains in the runs of the published table."""
    run = next(run for run in planned_runs() if run.method == method)
    columns = feature_columns(run.backbone, run.suite)
    return int(count(run.backbone, run.method, columns, run.overrides, run.tasks).trainable)


def run_cost(run: Run, gpu: Gpu, precision: str) -> RunCost:
    """Return what a run takes on a GPU in a precision."""
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update={"precision": precision})})
    updates, examples = trained_examples(run)
    seconds = throughput.estimate(run, examples).seconds * step_factor(run.method, gpu, precision)
    images = sum(n * (2 if name == "nlvr" else 1) for name, n in examples.items())
    total = sum(examples.values())
    return RunCost(updates, total, images, seconds, 4 * trainable(run.method), evaluation_seconds(run, gpu, precision))


def evaluation_seconds(run: Run, gpu: Gpu, precision: str) -> float:
    """Return the least that an evaluation of the reported splits takes: the arithmetic at the peak rate, and the
    decoder's weights that every generated token of a batch reads again."""
    shape, columns = backbones.shape(run.backbone), suites.get(run.suite).features.columns
    layer = 6 * shape.d * shape.inner + 2 * shape.d * shape.inner + 2 * shape.d * shape.ff
    weights = (2 if precision == "bf16" else 4) * (shape.decoder_layers * layer + shape.vocab * shape.d)
    counts, seconds = ExampleCounts({}), 0.0
    for task in run.task_list:
        examples = counts.count(run, task, task.report_split).examples or 0
        visual = visual_shape(task, run)
        beams = (task.decode.beams or run.recipe.beams) if task.decode.mode == "generate" else 1
        target = (task.target_limit or TARGET) if task.decode.mode == "generate" else 1
        text, tokens = task.source_limit or TEXT, visual[-1] * len(visual)
        encoder = multiplications(shape, text, tokens, 0, columns)
        decoder = multiplications(shape, text, tokens, target, columns) - encoder
        seconds += 2 * examples * (encoder + beams * decoder) / gpu.peak(precision)
        seconds += math.ceil(examples / EVAL_BATCH) * target * weights / gpu.memory
    return seconds


@dataclass(frozen=True)
class Makespan:
    """The shortest time of all runs on a number of GPUs, and how many GPUs share a run then."""

    seconds: float
    per_run: int


def makespan(costs: Sequence[RunCost], gpus: int, link: float) -> Makespan:
    """Return the shortest time of runs: groups of GPUs of one node take one run after the other, the longest first."""
    best = None
    for per_run in (1, 2, 4, 8):
        if per_run <= gpus:
            ends = [0.0] * (gpus // per_run)
            for seconds in sorted((cost.seconds(per_run, link) for cost in costs), reverse=True):
                first = min(range(len(ends)), key=ends.__getitem__)
                ends[first] += seconds
            if best is None or max(ends) < best.seconds:
                best = Makespan(max(ends), per_run)
    assert best is not None
    return best


def figure(figures: Sequence[dict[str, Any]], name: str, get: Callable[[dict[str, Any]], float]) -> float:
    """Return a measured figure of this machine.

    Raises:
        LookupError: the benchmark has no figure yet.
    """
    for item in figures:
        if item["name"] == name:
            return get(item)
    raise LookupError(f"benchmarks/figures.json has no {name}; run python -m benchmarks.page")


def page(figures: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown page."""
    machine = throughput.table()["machine"]
    return "\n".join(
        [
            _introduction(machine["device"]),
            _peaks(),
            _table2(),
            _bottlenecks(figures),
            _larger(figures),
        ]
    )


def _filled(*paragraphs: str) -> str:
    """Return paragraphs of Markdown in lines of at most 120 characters; one that begins with "- " is an item."""
    indents = ["  " if paragraph.startswith("- ") else "" for paragraph in paragraphs]
    filled = [
        textwrap.fill(p, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for p, indent in zip(paragraphs, indents, strict=True)
    ]
    separators = ["\n" if indent else "\n\n" for indent in indents]
    return "".join(text + end for text, end in zip(filled, separators, strict=True))


def _introduction(device: str) -> str:
    return f"""# Scale on paper

Computed by `python -m benchmarks.scaling` from what was measured on one {device} (`bench/planning/gpu.json`), from the
figures of the machine of [performance.md](performance.md) (`benchmarks/figures.json`), and from published rates. No run
of this size was made; what is assumed is said where it is used.
"""


def _peaks() -> str:
    lines = [
        "| | fp32 (TFLOP/s) | bf16 (TFLOP/s) | memory (TB/s) | links of a node (GB/s, one way) |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for gpu in (A100, H100, H200):
        rates = f"{gpu.fp32 / 1e12:.1f} | {gpu.bf16 / 1e12:.1f} | {gpu.memory / 1e12:.2f} | {gpu.link / 1e9:.0f}"
        lines.append(f"| {gpu.name} | {rates} |")
    rows = []
    for gpu in (A100, H100):
        factors = " | ".join(f"{step_factor('vl-pet-large', gpu, precision):.2f}" for precision in PRECISIONS)
        rows.append(f"| {gpu.name} | {factors} |")
    table = [*lines, ""]
    factors = ["| | fp32 | bf16 |", "| :-- | --: | --: |", *rows]
    device = throughput.table()["machine"]["device"]
    published = _filled(
        "Published, SXM cards, dense (NVIDIA's A100, H100 and H200 datasheets; fp32 without TF32, which torch leaves "
        "off):"
    )
    model = _filled(
        f"An update of BART-base needs {reference_operations() / 1e9:.1f} GFLOP of matrix products per example. They "
        "are "
        "taken to run at the peak rate, and the rest of the measured time to be bound by memory. So an update of "
        f"VL-PET-large takes, in times of that on the {device}:"
    )
    return "\n".join(["## Rates", "", published + "\n".join(table), model + "\n".join(factors), ""])


@cache
def _costs(gpu: Gpu, precision: str) -> tuple[RunCost, ...]:
    return tuple(run_cost(run, gpu, precision) for run in planned_runs())


def _table2() -> str:
    runs = planned_runs()
    lines = [
        "| GPUs | precision | GPU hours | days until all runs are done | GPUs per run | a run (h) |",
        "| :-- | :-- | --: | --: | --: | --: |",
    ]
    for gpu in (A100, H100):
        for precision in PRECISIONS:
            costs = _costs(gpu, precision)
            for number in NUMBERS:
                best = makespan(costs, number, gpu.link)
                seconds = [cost.seconds(best.per_run, gpu.link) for cost in costs]
                hours = sum(seconds) * best.per_run / 3600
                lines.append(
                    f"| {number} {gpu.name} | {precision} | {hours:,.0f} | {best.seconds / 86400:.2f} "
                    f"| {best.per_run} | {fmean(seconds) / 3600:.1f} |"
                )
    updates, examples = trained_examples(runs[0])
    prose = _filled(
        f"`{SWEEP}`: {len(runs)} runs of {updates:,} updates on {sum(examples.values()) / 1e6:.1f} million examples "
        "each. "
        "Runs are independent. GPUs of a node that share a run split each batch, which is taken to divide its time "
        "(parts "
        "of 62 examples use a GPU less well), and exchange the gradients of what is trained at the rate of the node's "
        "links. The number of GPUs per run is that with the shortest time until all runs are done."
    )
    return "\n".join(["## Table 2", "", prose + "\n".join(lines), ""])


def _bottlenecks(figures: Sequence[dict[str, Any]]) -> str:
    files = figure(figures, "test_random_reads", lambda item: 128 / item["figures"]["rival_seconds"])
    loader = figure(figures, "test_loader", lambda item: item["figures"]["examples_per_second"])
    lines = [
        "| GPUs | precision | images/s, one GPU | GB/s, 8 GPUs | h5 processes per GPU | loaders of 2 cores per GPU "
        "| exchange, 8 GPUs per run (%) | evaluation (%, at least) |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for gpu in (A100, H100):
        for precision in PRECISIONS:
            costs = _costs(gpu, precision)
            images = fmean(cost.images / cost.step_seconds for cost in costs)
            shared = [cost.seconds(PER_NODE, gpu.link) for cost in costs]
            alone = [(cost.step_seconds + cost.evaluation_seconds) / PER_NODE for cost in costs]
            exchange = 100 * (1 - sum(alone) / sum(shared))
            evaluation = 100 * fmean(cost.evaluation_seconds / cost.seconds(1, gpu.link) for cost in costs)
            lines.append(
                f"| {gpu.name} | {precision} | {images:,.0f} | {PER_NODE * images * IMAGE_BYTES / 1e9:.1f} "
                f"| {images / files:.1f} | {images / loader:.2f} | {exchange:.1f} | {evaluation:.2f} |"
            )
    features, runs = IMAGES * IMAGE_BYTES / 1e9, len(planned_runs())
    prose = _filled(
        f"A folder of h5 files gives {files:,.0f} images/s to one process (HDF5 has one lock), a pack {loader:,.0f} "
        "images/s "
        "to the loader of two cores, both from the page cache (the figures `random reads` and `loader`)."
    )
    notes = _filled(
        "- **One GPU.** Where more than one h5 process per GPU is needed, the files are the bottleneck and the GPU "
        "waits; "
        "with a pack the step is, as long as a GPU has the cores of its loaders.",
        f"- **A node of 8.** The cores of eight loaders, and {features:.0f} GB of features in the page cache of the "
        "node. "
        "Read from disks instead, the third column is needed; a PCIe 4.0 NVMe disk gives "
        f"{NVME / 1e9:.0f} GB/s at best.",
        f"- **64 GPUs.** {runs} runs keep at most {runs} GPUs busy on their own, so that batches have to be shared; "
        "the "
        "exchange of gradients is what that costs at least. It grows with what is trained, so `full` pays most of it.",
        "- **Evaluation** is a lower bound: beam search is bound by the latency of small kernels, which no rate on "
        "this "
        "page describes.",
    )
    return "\n".join(["## Where the bottleneck moves", "", prose + "\n".join(lines), "", notes])


def _larger(figures: Sequence[dict[str, Any]]) -> str:
    planning = figure(figures, "test_planning[settings]", lambda item: item["median"] / item["figures"]["runs"])
    overhead = figure(figures, "test_overhead_per_run", lambda item: item["figures"]["milliseconds_per_run"])
    status = figure(figures, "test_status", lambda item: item["median"] / item["figures"]["runs"])
    frame = figure(figures, "test_frame", lambda item: item["median"] / item["figures"]["runs"])
    loader = figure(figures, "test_loader", lambda item: item["figures"]["examples_per_second"])
    costs = _costs(H100, "bf16")
    images = fmean(cost.images / cost.step_seconds for cost in costs)
    run = planned_runs()[-1]
    reported = sum(ExampleCounts({}).count(run, t, t.report_split).examples or 0 for t in run.task_list)
    space = disk(run, trainable(run.method), reported)["total"]
    many = 10_000
    rate, disks = PER_NODE * images * IMAGE_BYTES, math.ceil(PER_NODE * images * IMAGE_BYTES / NVME)
    years = many * fmean(cost.seconds(1, H100.link) for cost in costs) / 3600 / 24 / 365
    prose = _filled(
        "**Ten times the data**, the same number of epochs: every time of Table 2 is ten times as long. The pack has "
        f"{10 * IMAGES * IMAGE_BYTES / 1e12:.1f} TB in float32 and half of it in float16, which no page cache holds: "
        "eight "
        f"H100 in bf16 then read {rate / 1e9:.1f} GB/s from disks, as {disks} NVMe disks give them at best, or half "
        "of that "
        f"from float16. Reads are random and {IMAGE_BYTES / 1e3:.0f} KB long, near the size from which such disks "
        "have their "
        f"full rate. The loader's work per image stays the same ({1e6 * 2 / loader:,.0f} us of a core).",
        f"**{many:,} runs**: planning them takes {many * planning:.1f} s, and claims, attempts and records "
        f"{overhead:.0f} ms "
        f"a run, {many * overhead / 6e4:.1f} min for one worker in sequence and {many * overhead / 1e3 / 64:.0f} s "
        "for 64. "
        f"One look at their states takes {many * status:.1f} s, reading all records {many * frame:.1f} s. They leave "
        f"{many * space / 1e9:,.0f} GB, almost all of it trained weights ({run.method}). As long as a run takes "
        "minutes, the "
        f"queue is no bottleneck; what is, at {many:,} runs of a published size, is {years:.1f} years of one H100 in "
        "bf16.",
    )
    return "\n".join(["## Ten times the data, 10,000 runs", "", prose.rstrip("\n"), ""])


def main() -> None:
    """Write the page."""
    from benchmarks.page import read_figures

    PAGE.write_text(page(read_figures()), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
