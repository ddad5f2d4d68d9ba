"""Results that may be compared, and the index that makes reading them fast: never wrong, whatever happens to it."""

import json
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import fake_runs
import pandas as pd
import pytest

import bench
from bench import record_index, records
from bench.config import Execution, Run, resolve
from bench.errors import UsageError
from bench.record_index import RecordIndex
from bench.records import load_frame
from bench.run_dir import RunDir
from bench.sweep.spec import load
from bench.sweep.started import keep

RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2)]


def write(results: Path, runs: list[Run]) -> None:
    for run in runs:
        fake_runs.run_one(run, Execution(), results)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished runs, with an index that is about to be made and takes files as settled at once."""
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record_index, "SETTLED_SECONDS", -1.0)
    write(tmp_path / "results", RUNS)
    return tmp_path / "results"


def index_file(results: Path) -> Path:
    (path,) = (results.parent / "cache" / record_index.FOLDER).iterdir()
    return path


def change_score(folder: RunDir) -> None:
    """Write another score of the same length at the same time of change, as no index may overlook."""
    before = folder.record.stat()
    folder.record.write_text(folder.record.read_text().replace("50.0", "40.6"))
    os.utime(folder.record, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[RunDir], object]] = {
    "another score": change_score,
    "no record": lambda folder: folder.record.unlink(),
    "a torn record": lambda folder: folder.record.write_text("{"),
    "torn weights": lambda folder: folder.weights.write_bytes(b"\2"),
    "no weights": lambda folder: folder.weights.unlink(),
    "another configuration": lambda folder: folder.run.write_text(
        folder.run.read_text().replace('"seed": 1', '"seed": 3')
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_run_is_noticed(change: str, results: Path) -> None:
    first = load_frame(results)
    pd.testing.assert_frame_equal(load_frame(results), first)  # from the index
    CHANGES[change](RunDir(results, RUNS[0].id))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        indexed = load_frame(results)
        index_file(results).unlink(missing_ok=True)
        pd.testing.assert_frame_equal(indexed, load_frame(results))
    assert not indexed.equals(first)


def test_the_index_is_read_and_not_the_records(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_frame(results)
    monkeypatch.setattr(RunDir, "read", lambda self: pytest.fail("a record was read"))
    pd.testing.assert_frame_equal(load_frame(results), first)


@pytest.mark.parametrize("content", [b"", b"\xff" * 99, b"x\n1\n[]", b"torn", b"score", b"folder"])
def test_a_broken_index_is_none(content: bytes, results: Path) -> None:
    first = load_frame(results)
    path = index_file(results)
    whole_file = path.read_bytes()
    if content == b"folder":
        path.unlink()
        path.mkdir()
    else:
        broken = {b"torn": whole_file[: len(whole_file) // 2], b"score": whole_file.replace(b"50.0", b"99.0")}
        path.write_bytes(broken.get(content, content))
    pd.testing.assert_frame_equal(load_frame(results), first)


def test_a_cache_that_cannot_be_written_costs_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_CACHE", "/dev/null")
    assert len(load_frame(results)) == len(load_frame(results)) == 8


def test_what_has_just_changed_is_not_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_index, "SETTLED_SECONDS", 60.0)
    index = RecordIndex(results)
    assert index.read(RUNS[0].id) is not None
    index.save()
    assert not (results.parent / "cache").exists()


def test_readers_that_write_at_once_see_true_records(results: Path) -> None:
    frames: list[pd.DataFrame] = []
    threads = [threading.Thread(target=lambda: frames.append(load_frame(results))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frames) == 8 and all(frame.equals(frames[0]) for frame in frames)


def scored(results: Path, run: Run, score: float, **fields: object) -> None:
    """Write a record whose tasks all have a score."""
    write(results, [run])
    record = json.loads(RunDir(results, run.id).record.read_text().replace("50.0", str(score))) | fields
    RunDir(results, run.id).record.write_text(json.dumps(record))


def test_results_are_the_numbers_of_the_table_after_a_few_tryouts(results: Path) -> None:
    whole = bench.load_results(results)
    scored(results, resolve("mini-bart", "lora", "image-text", settings={"steps": 20}), 10)
    scored(results, resolve("mini-bart", "lora", "image-text", seed=5, settings={"limit": 30}), 10, limited=True)
    scored(results, resolve("mini-bart", "lora", "image-text", seed=6), 10, fingerprints={"method": {"spec": "x"}})
    scored(results, resolve("mini-bart", "lora", "image-text", settings={"rank": 2}), 20)  # its label shows it
    with pytest.warns(UserWarning) as caught:
        frame = bench.load_results(results)
    (line,) = [str(warning.message) for warning in caught]
    assert "1 try-out" in line and "1 limited" in line and "1 stale" in line
    assert frame.groupby("label")["score"].mean().to_dict() == {"lora": 50.0, "lora [rank=2]": 20.0}
    assert len(whole) == 8 and len(bench.load_results(results, tryouts=True, limited=True, stale=True)) == 24
    with pytest.warns(UserWarning, match="runs left out: 1 limited"):
        assert len(bench.load_results(results, tryouts=True, stale=True)) == 20


def test_a_design_of_a_sweep_file_stays_unless_it_would_be_mixed(results: Path) -> None:
    fields = {"methods": ("ia3",), "suites": ("image-text",), "variant": (), "set": {"steps": 9}, "name": "mine"}
    design = load("default").model_copy(update=fields)
    run = resolve("mini-bart", "ia3", "image-text", settings={"steps": 9})
    write(results, [run])
    with pytest.warns(UserWarning, match="1 try-out"):
        assert run.id not in set(bench.load_results(results)["run_id"])
    keep(results, design, {}, "inline", "x")
    assert run.id in set(bench.load_results(results)["run_id"])
    write(results, [resolve("mini-bart", "ia3", "image-text")])
    with pytest.warns(UserWarning, match="1 try-out"):
        assert run.id not in set(bench.load_results(results)["run_id"])
    assert set(bench.load_results(results, sweep="mine")["run_id"]) == {run.id}


def test_a_sweep_is_chosen_by_its_name(results: Path) -> None:
    write(results, [resolve("mini-bart", "ia3", "image-text")])
    frame = bench.load_results(results, sweep="default")
    assert set(frame["run_id"]) == {RUNS[0].id}
    with pytest.raises(UsageError, match="unknown sweep 'defualt'; did you mean 'default'"):
        bench.load_results(results, sweep="defualt")
    assert records.run_names(results) == sorted(path.name for path in (results / "runs").iterdir())
