"""Planning, looking at and reporting many runs."""

from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.cli.report import plan
from bench.config import Execution
from bench.records import load_results
from bench.sweep.expand import expand
from bench.sweep.spec import Sweep
from bench.sweep.sweep_status import SweepObserver
from benchmarks.measuring import set_bar
from benchmarks.test_harness import fake_runs

METHODS = ("lora", "adapter", "vl-adapter", "vl-pet-small", "vl-pet-large")
PLAN_BAR = 2.0  # seconds for 10,000 runs


def sweep(methods: tuple[str, ...], **fields: Any) -> Sweep:
    return Sweep(name="benchmark", methods=methods, suites=("image-text", "video-text"), max_cells=10**6, **fields)


@pytest.mark.benchmark(group="planning: from a sweep to its runs with their ids")
@pytest.mark.parametrize("kind", ["seeds", "settings"])
def test_planning(benchmark, kind: str, small: bool, rounds: int) -> None:
    count = 100 if small else 10_000
    if kind == "seeds":
        wanted = sweep(METHODS, seeds=tuple(range(1, count // 10 + 1)))
    else:
        rates, sizes = [1e-4 * (i + 1) for i in range(10)], [10 * (i + 1) for i in range(count // 100)]
        wanted = sweep(METHODS, axes={"lr": rates, "batch_size": sizes})
    cells = benchmark.pedantic(lambda: expand(wanted), rounds=rounds, warmup_rounds=1)
    assert len({cell.run_id for cell in cells if cell.run}) >= count
    benchmark.extra_info["runs"] = len(cells)
    set_bar(benchmark, f"seconds for {len(cells):,} runs", benchmark.stats.stats.median, at_most=PLAN_BAR)


@pytest.fixture(scope="module")
def many_results(tmp_path_factory: pytest.TempPathFactory, small: bool) -> tuple[list[Any], Path]:
    """The cells and the results folder of a sweep of which every run is done."""
    results = tmp_path_factory.mktemp("many")
    cells = expand(sweep(METHODS, seeds=tuple(range(1, 3 if small else 201))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        for cell in cells:
            fake_runs.run_one(cell.run, Execution(), results)
    return cells, results


@pytest.mark.benchmark(group="looking at many runs")
def test_status(benchmark, many_results: tuple[list[Any], Path], rounds: int) -> None:
    cells, results = many_results
    half = cells[: max(1, len(cells) // 2)]
    status = benchmark.pedantic(lambda: SweepObserver(half, results).look(), rounds=rounds, warmup_rounds=1)
    assert status.totals == {"done": len(half)}
    benchmark.extra_info["runs"] = len(half)


@pytest.mark.benchmark(group="looking at many runs")
def test_frame(benchmark, many_results: tuple[list[Any], Path], rounds: int) -> None:
    cells, results = many_results
    frame = benchmark.pedantic(lambda: load_results(results), rounds=rounds, warmup_rounds=1)
    assert frame["run_id"].nunique() == len(cells)
    benchmark.extra_info["runs"] = len(cells)


@pytest.mark.benchmark(group="looking at many runs")
def test_report(benchmark, many_results: tuple[list[Any], Path], tmp_path: Path) -> None:
    cells, results = many_results
    folders = iter(range(100))

    def write() -> None:
        frame, planned = load_results(results), plan(cells, results)
        report.write("benchmark", frame, planned, tmp_path / str(next(folders)), {}, command="", environment={})

    benchmark.pedantic(write, rounds=3)
    benchmark.extra_info["runs"] = len(cells)
