"""The time of a training from a table of measured throughputs, for what was never run here.

The table is ``gpu.json`` in this folder, which ``make bench-gpu`` writes: one GPU, BART-base, random weights and texts.
Another backbone, another method or longer inputs are estimated by the arithmetic that they need.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import methods
from bench import backbones, suites
from bench.config import Run
from bench.planning.memory import TARGET, TEXT, visual_shape
from methods.core.shape import Shape

TABLE = Path(__file__).parent / "gpu.json"
BOUNDS = ("full", "projector-only")  # not like any other method


@dataclass(frozen=True)
class Estimate:
    """Seconds of the updates of a run on ``hardware``, and how they were estimated."""

    seconds: float
    hardware: str
    source: str


@cache
def table() -> dict[str, Any]:
    """Return the measured throughputs: ``machine`` (device, backbone, batch and numbers of tokens) and ``rows``."""
    content: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return content


def estimate(run: Run, examples: Mapping[str, int]) -> Estimate:
    """Estimate the time of all updates of a run, without its evaluation.

    The seconds of an example are those of the method in the table; of its family, where it is not there; or of all
    methods that tune a part. They grow with the multiplications of a forward pass (:func:`multiplications`).

    Args:
        run: the run.
        examples: the number of examples that are trained on in the whole training, by task.
    """
    machine = table()["machine"]
    precision = "bf16" if run.recipe.precision == "bf16" else "fp32"
    rows = {r["method"]: 1 / r["examples_per_second"] for r in table()["rows"] if r["precision"] == precision}
    family = methods.get(run.method).family
    of_family = [name for name in rows if name not in BOUNDS and methods.get(name).family == family]
    alike = [run.method] if run.method in rows else of_family or [name for name in rows if name not in BOUNDS]
    per_example = fmean(rows[name] for name in alike)
    reference = multiplications(
        backbones.shape(machine["backbone"]),
        machine["text"],
        machine["visual"],
        machine["target"],
        machine["features"],
    )
    shape, columns = backbones.shape(run.backbone), suites.get(run.suite).features.columns
    seconds = 0.0
    for task in run.task_list:
        visual = visual_shape(task, run)
        tokens = task.source_limit or TEXT, visual[-1] * len(visual), task.target_limit or TARGET
        seconds += examples[task.name] * per_example * multiplications(shape, *tokens, columns) / reference
    replaced = "" if precision == run.recipe.precision else f" in place of {run.recipe.precision}"
    source = f"table of throughputs ({machine['backbone']}, {precision}{replaced}, batch {machine['batch']})"
    if alike != [run.method]:
        source += f", as the mean of {', '.join(alike)}"
    return Estimate(seconds, machine["device"], source)


def multiplications(shape: Shape, text: int, visual: int, target: int, columns: int) -> float:
    """Return the multiplications of one forward pass of an example, in the backbone and the visual projector.

    Per token: the matrices of every layer that it goes through; per pair of tokens that attend: two products of the
    attention's width; per target token: the vocabulary.

    Args:
        shape: sizes of the backbone.
        text, visual, target: numbers of tokens.
        columns: number of columns of the visual features.
    """
    source = text + visual
    attention, feed_forward = 4 * shape.d * shape.inner, 2 * shape.d * shape.ff
    encoder = source * (attention + feed_forward) + 2 * source**2 * shape.inner
    cross = target * attention / 2 + source * attention / 2 + 2 * source * target * shape.inner
    decoder = target * (attention + feed_forward) + 2 * target**2 * shape.inner + cross
    layers = shape.encoder_layers * encoder + shape.decoder_layers * decoder
    return layers + target * shape.vocab * shape.d + visual * columns * shape.d
