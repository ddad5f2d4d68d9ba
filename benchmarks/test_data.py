"""Features in packs and in files, batches made ahead of a step, and the set-up of a run on a root of the real size."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench import backbones, suites, tasks
from bench.data import feature_files
from bench.data.batches import TokenizedSplit
from bench.data.features import FeatureStore
from bench.tasks import Example
from benchmarks.measuring import contest, seconds, set_bar
from benchmarks.real_size_root import COLUMNS, ROWS, RootWriter

packing = pytest.importorskip("bench.data.packing", reason="this tree has no packed features")
from bench.data.packs import find_pack  # noqa: E402
from bench.data.prefetch import Prefetcher  # noqa: E402

FILES = 1_024  # of 400 KB: they and the pack stay in the page cache
READ_BAR, RATE_BAR, WAIT_BAR = 1 / 6, 5_000, 0.03
COLD_BAR, WARM_BAR, MEMORY_BAR = 15.0, 3.0, 1.5e9
STEP_SECONDS, STEP_BATCH = 0.1, 250
BYTES = 4 * ROWS * COLUMNS


@pytest.fixture(scope="module")
def grid_root(tmp_path_factory: pytest.TempPathFactory, small: bool) -> Path:
    """A root with different features in every file, and their pack."""
    root = tmp_path_factory.mktemp("features")
    folder = root / "grids"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(64 if small else FILES):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file[f"{number}/features"] = generator.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    return root


@pytest.fixture(scope="module")
def packed(grid_root: Path) -> Path:
    folder = grid_root / "grids"
    packing.pack_folder(folder, suites.get("image-text").features, "float32", jobs=2)
    return folder


def copy_rate() -> float:
    """Return the measured rate at which one thread copies memory that is in no cache, in bytes per second."""
    source, target = np.ones(1 << 28, np.uint8), np.empty(1 << 28, np.uint8)
    return source.nbytes / statistics.median(seconds(lambda: np.copyto(target, source)) for _ in range(7))


@pytest.mark.benchmark(group="random reads of features, 400 KB each, from the page cache")
def test_random_reads(benchmark, packed: Path, rounds: int) -> None:
    pack = find_pack(packed)
    assert pack is not None
    names = [path.name for path in packed.glob("*.h5")]
    chosen = np.random.default_rng(1).choice(names, 128)
    target = np.empty((ROWS, COLUMNS), np.float32)

    def from_pack() -> None:
        for name in chosen:
            target[:] = pack.read(name)

    def from_files() -> None:
        for name in chosen:
            target[:] = feature_files.read(packed / name, "grid")

    assert all(np.array_equal(pack.read(name), feature_files.read(packed / name, "grid")) for name in chosen[:32])
    contest(benchmark, from_pack, from_files, rounds, rival_name="h5 files", examples=len(chosen), at_most=READ_BAR)


@pytest.fixture(scope="module")
def training_split(packed: Path, small: bool) -> Iterator[TokenizedSplit]:
    rng = np.random.default_rng(0)
    count = 3_000 if small else 20_000
    names = rng.choice([path.name for path in packed.glob("*.h5")], count)
    task = tasks.get("gqa")
    examples = [Example(str(i), "what is it ?", (f"grids/{name}",), (("a", 1.0),)) for i, name in enumerate(names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.data.batches.PREFETCH_BYTES", 0)  # a real split does not fit into memory
        store = FeatureStore(packed.parent, "grid", cache_bytes=0)
        yield TokenizedSplit(task, examples, backbones.tokenizer("mini-bart"), store, prefix=True)


@pytest.mark.benchmark(group=f"batches of {STEP_BATCH} examples from a pack")
def test_loader(benchmark, training_split: TokenizedSplit, rounds: int) -> None:
    batches = 8

    def read() -> None:
        jobs = [partial(training_split.batch, 0, index, STEP_BATCH, 1) for index in range(batches)]
        loader = Prefetcher(jobs)
        for _ in range(batches):
            next(loader)
        loader.close()

    benchmark.pedantic(read, rounds=rounds, warmup_rounds=1)
    rate, limit = batches * STEP_BATCH / benchmark.stats.stats.median, copy_rate() / BYTES / 2
    benchmark.extra_info |= {"examples_per_second": rate, "copy_limit_examples_per_second": limit}
    set_bar(benchmark, "examples/s, or half of what memory copies allow", rate, at_least=min(RATE_BAR, limit))


@pytest.mark.benchmark(group=f"batches of {STEP_BATCH} examples from a pack")
def test_data_wait(benchmark, training_split: TokenizedSplit, rounds: int) -> None:
    """An artificial step that leaves the CPU alone, as a step on a GPU does."""
    steps, waits = 8, []

    def train() -> None:
        jobs = [partial(training_split.batch, 1, index, STEP_BATCH, 1) for index in range(steps + 1)]
        loader = Prefetcher(jobs)
        next(loader)  # the first batch of a training has to be waited for
        before, begin = loader.wait_seconds, time.perf_counter()
        for _ in range(steps):
            next(loader)
            time.sleep(STEP_SECONDS)
        waits.append((loader.wait_seconds - before) / (time.perf_counter() - begin))
        loader.close()

    benchmark.pedantic(train, rounds=rounds, warmup_rounds=1)
    share = statistics.median(waits[1:])
    benchmark.extra_info |= {"examples_per_second": steps * STEP_BATCH / benchmark.stats.stats.median, "wait": share}
    set_bar(benchmark, f"share of waiting for data, steps of {STEP_SECONDS:g} s", share, at_most=WAIT_BAR)


SET_UP = """
import json, resource, sys, time
from pathlib import Path
from bench import backbones, tasks
from bench.config import resolve
from bench.run_data import read_split
import torch
run = resolve("mini-bart", "lora", "image-text", data="official")
backbones.tokenizer("mini-bart")
begin = time.perf_counter()
sizes = [len(read_split(run, task, "train", Path(sys.argv[1]))) for task in run.task_list]
seconds = time.perf_counter() - begin
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "sizes": sizes, "bytes": peak}))
"""


@pytest.fixture(scope="module")
def real_root(tmp_path_factory: pytest.TempPathFactory, small: bool) -> Path:
    root = tmp_path_factory.mktemp("real") / "root"
    RootWriter(root, 0.002 if small else 1.0).write()
    return root


@pytest.mark.benchmark(group="set-up of a run on a root of the real size: reading and tokenising the training splits")
@pytest.mark.parametrize("kind", ["cold", "warm"])
def test_set_up(benchmark, real_root: Path, kind: str, tmp_path: Path, rounds: int) -> None:
    """Cold: nothing was tokenised before. Each time in a process of its own; the files are in the page cache."""
    folders = iter(range(1000))
    outcomes = []

    def set_up() -> None:
        cache = tmp_path / (str(next(folders)) if kind == "cold" else "cache")
        environment = os.environ | {"VLPET_BENCH_CACHE": str(cache)}
        command = [sys.executable, "-c", SET_UP, str(real_root)]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        outcomes.append(json.loads(output.splitlines()[-1]))

    benchmark.pedantic(set_up, rounds=min(rounds, 3), warmup_rounds=1)
    measured = outcomes[1:]
    assert all(outcome["sizes"] == measured[0]["sizes"] for outcome in outcomes)
    duration, memory = (statistics.median(outcome[key] for outcome in measured) for key in ("seconds", "bytes"))
    benchmark.extra_info |= {"examples": sum(measured[0]["sizes"]), "set_up_seconds": duration, "peak_rss": memory}
    set_bar(benchmark, f"seconds, {kind}", duration, at_most=COLD_BAR if kind == "cold" else WARM_BAR)
    set_bar(benchmark, f"bytes of resident memory, {kind}", memory, at_most=MEMORY_BAR)
