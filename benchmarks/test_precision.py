"""Loss curves of bfloat16 against those of float32, over the whole budget of the miniature suite.

TF32 is left out: it means nothing on a CPU (:func:`bench.device.matrix_products`), where both are the same numbers.
"""

import itertools
import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from bench.config import Execution, Run, resolve
from bench.run_dir import RunDir
from bench.sweep.execute import work_through
from benchmarks.measuring import set_bar

SEEDS, STRETCHES = (1, 2, 3), 10
SMALL = {"steps": 20, "limit": 8}


def curve(results: Path, run: Run) -> np.ndarray:
    """Return the mean loss of each tenth of a run's training."""
    lines = RunDir(results, run.id).curve.read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    return np.array([part.mean() for part in np.array_split(losses, STRETCHES)])


def mean_score(results: Path, run: Run) -> float:
    record = RunDir(results, run.id).read()
    assert record is not None and record.status == "done"
    return statistics.fmean(score.value for score in record.scores.values() if score.value is not None)


@pytest.mark.benchmark(group="loss curves of vl-pet-large on mini-bart, image-text, whole budget, by precision")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision(benchmark, precision: str, tmp_path_factory: pytest.TempPathFactory, small: bool) -> None:
    """Curves differ between precisions by no more than between seeds."""
    results = tmp_path_factory.getbasetemp() / "precision"
    settings = {"precision": precision, **(SMALL if small else {})}
    runs = [resolve("mini-bart", "vl-pet-large", "image-text", seed=seed, settings=settings) for seed in SEEDS]
    benchmark.pedantic(lambda: work_through(runs, Execution(), results), rounds=1)
    curves = [curve(results, run) for run in runs]
    plain = [
        resolve("mini-bart", "vl-pet-large", "image-text", seed=s, settings=settings | {"precision": "fp32"})
        for s in SEEDS
    ]
    exact = [curve(results, run) for run in plain]
    between_seeds = statistics.fmean(abs(a - b).mean() for a, b in itertools.combinations(exact, 2))
    from_fp32 = statistics.fmean(abs(a - b).mean() for a, b in zip(curves, exact, strict=True))
    benchmark.extra_info |= {
        "runs": len(runs),
        "mean_score": statistics.fmean(mean_score(results, run) for run in runs),
        "last_loss": statistics.fmean(c[-1] for c in curves),
        "from_fp32": from_fp32,
        "between_seeds": between_seeds,
    }
    if precision != "fp32":
        set_bar(
            benchmark,
            "difference of its loss curve from fp32's, to that of seeds",
            from_fp32 / between_seeds,
            at_most=1,
        )
