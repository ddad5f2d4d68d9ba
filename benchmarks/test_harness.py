"""The overhead of the harness: claims, attempts, states and records of runs that do nothing, and jobs on a cluster.

The benchmarks on a cluster are skipped where the Slurm of slurm/dev-cluster is not installed or the user is not root.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.config import Execution, Run, resolve
from bench.sweep.execute import work_through
from benchmarks.measuring import set_bar

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "slurm")]

import fake_runs  # noqa: E402
from dev_slurm import DevSlurm, why_not  # noqa: E402

RUNS = 40
SECONDS = 1.0  # duration of a run on the cluster
NODES = 4


def resolve_runs(count: int) -> list[Run]:
    return [resolve("mini-bart", "lora", "image-text", seed=seed, task_names=("gqa",)) for seed in range(1, count + 1)]


@pytest.mark.benchmark(group="a run that does nothing: claim, attempt, record")
def test_overhead_per_run(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    runs, per_round = iter(resolve_runs(300)), 20
    folders = iter(range(10**6))

    def next_round() -> tuple[tuple[list[Run], Path], dict[str, object]]:
        return ([next(runs) for _ in range(per_round)], tmp_path / str(next(folders))), {}

    def work(round_runs: list[Run], results: Path) -> None:
        results.mkdir()
        work_through(round_runs, Execution(), results)

    benchmark.pedantic(work, setup=next_round, rounds=10)
    milliseconds = 1000 * benchmark.stats.stats.median / per_round
    benchmark.extra_info |= {"runs": per_round, "milliseconds_per_run": milliseconds}
    set_bar(benchmark, "milliseconds of a run that does nothing", milliseconds, at_most=25)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevSlurm]:
    if reason := why_not():
        pytest.skip(reason)
    slurm = DevSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.control("up", str(NODES))
        yield slurm
    finally:
        slurm.control("down")


@pytest.fixture
def on_cluster(cluster: DevSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder for runs on the cluster, whose jobs do nothing but sleep."""
    cluster.settle()
    fake_runs.also_in_workers(tmp_path / "site", monkeypatch)
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    monkeypatch.setenv("FAKE_SECONDS", str(SECONDS))
    return tmp_path / "results"


def submitter(results: Path, **fields: object):
    from bench.sweep.profile import Profile
    from bench.sweep.slurm import SlurmSubmitter

    profile = Profile.model_validate({"partition": "main", "memory_gb": 0.9, "time_minutes": 30, **fields})
    return SlurmSubmitter("harness", "", results, profile, Execution(device="cpu"))


@pytest.mark.benchmark(group="submitting 1000 runs as one array")
def test_submission(benchmark, on_cluster: Path, cluster: DevSlurm) -> None:
    runs = resolve_runs(1000)
    sent = benchmark.pedantic(lambda: submitter(on_cluster, array_parallelism=1).submit(runs), rounds=1)
    assert len(sent) == 1
    assert len(sent[0].jobs) == 1000
    cluster.run("scancel", "--user=root")


@pytest.mark.benchmark(group=f"{RUNS} runs of {SECONDS:.0f} s on {NODES} nodes, one job a node")
@pytest.mark.parametrize("pack", [1, 5])
def test_makespan(benchmark, on_cluster: Path, pack: int) -> None:
    from bench.sweep.slurm_monitor import SlurmMonitor

    runs = resolve_runs(RUNS)
    ends: list[float] = []

    def work() -> None:
        on_slurm = submitter(on_cluster, array_parallelism=NODES, pack=pack)
        submissions = on_slurm.submit(runs)
        SlurmMonitor(on_slurm, runs, submissions, lambda event: ends.append(time.monotonic())).wait()

    benchmark.pedantic(work, rounds=1)
    assert len(fake_runs.ledger(on_cluster)) == RUNS
    ledger = fake_runs.ledger(on_cluster)
    benchmark.extra_info["ideal_seconds"] = RUNS * SECONDS / NODES
    benchmark.extra_info["first_to_last_run_seconds"] = max(row[2] for row in ledger) - min(row[1] for row in ledger)
    benchmark.extra_info["cpus"] = os.cpu_count()
