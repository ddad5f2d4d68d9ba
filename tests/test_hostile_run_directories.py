"""Files of a run directory that are not what a run writes: each is named, none hangs, none becomes a number."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from bench import environment
from bench.config import Execution, Run, resolve
from bench.errors import UsageError
from bench.files import CorruptFile, read_json_lines, write_json
from bench.record_schema import Record
from bench.records import load_records, load_results
from bench.run_dir import RunDir
from bench.sweep import attempts, claim_files, claims, progress_file
from bench.sweep.execute import work_through
from bench.sweep.run_state import state
from bench.sweep.worker import output_file
from bench.weights_file import check_weights


@pytest.fixture(scope="module")
def run() -> Run:
    return resolve("mini-bart", "lora", "image-text")


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> RunDir:
    fake_runs.run_one(run, Execution(), tmp_path)
    return RunDir(tmp_path, run.id)


def replace_by(path: Path, kind: str) -> None:
    """Put something that is no file in the place of a path."""
    path.unlink(missing_ok=True)
    {"folder": path.mkdir, "loop": lambda: path.symlink_to(path.name), "pipe": lambda: os.mkfifo(path)}[kind]()


DEEP = b"[" * 100_000
NO_FILE = ["folder", "loop", "pipe"]


def gqa(**metrics: float) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["scores"]["gqa"]["metrics"].update(metrics)


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (gqa(accuracy=float("nan")), "scores.gqa.metrics.accuracy"),
        (gqa(accuracy=float("inf")), "scores.gqa.metrics.accuracy"),
        (gqa(accuracy=458.33), "scores.gqa.metrics.accuracy"),
        (gqa(accuracy=-5), "scores.gqa.metrics.accuracy"),
        (lambda c: c["scores"]["caption"]["metrics"].update(CIDEr=1200.0), "scores.caption.metrics.CIDEr"),
        (lambda c: c["scores"]["gqa"]["metrics"].clear(), "scores.gqa.metrics"),
        (lambda c: c["scores"]["gqa"].update(metric="nosuch"), "nosuch"),
        (lambda c: c["run"].update(tasks=["x"]), "run: .*tasks"),
        (lambda c: c["run"].update(seed=7), "run: .*seed"),
        (lambda c: c["run"].update(method="nosuch"), "run: .*method"),
        (lambda c: c["run"]["recipe"].update(lr=float("nan")), "lr"),
        (lambda c: c["run"]["recipe"].update(steps=77), "run: .*recipe"),
        (lambda c: c["memory"].update(phases=5), "memory.phases"),
        (lambda c: c["memory"].update(phases={"train": 5}), "memory.phases"),
        (lambda c: c["memory"].update(analytic=[1]), "memory.analytic"),
        (lambda c: c.update(schema=99), "schema"),
        (lambda c: c.update(status="x"), "status"),
        (lambda c: c.update(id="another"), "id"),
    ],
)
def test_a_record_that_no_run_writes_is_corrupt_and_in_no_frame(
    edit: Callable[[dict[str, Any]], None], field: str, folder: RunDir, tmp_path: Path, run: Run
) -> None:
    content = json.loads(folder.record.read_text())
    edit(content)
    folder.record.write_text(json.dumps(content))
    with pytest.raises(CorruptFile, match=f"record.json: .*{field}"):
        folder.read()
    with pytest.warns(UserWarning, match="record left out"):
        assert len(load_results(tmp_path)) == 0
    assert state(tmp_path, run).name == "corrupt"


@pytest.mark.parametrize("kind", NO_FILE)
@pytest.mark.parametrize("name", ["record", "weights", "run", "curve", "segments", "progress", "fingerprints"])
def test_what_is_no_file_is_never_waited_for(name: str, kind: str, folder: RunDir, tmp_path: Path) -> None:
    replace_by(getattr(folder, name), kind)
    _, faults = load_records(tmp_path)
    assert bool(faults) == (name in ("record", "weights"))
    assert read_json_lines(folder.curve) == read_json_lines(folder.segments) == []
    assert progress_file.read(folder) == folder.read_fingerprints() == {}


@pytest.mark.parametrize("content", [b"", DEEP, b"\xff", b'{"run": ' + b"9" * 6000 + b"}", b"null", b"5"])
def test_json_that_is_none_is_one_kind_of_error(content: bytes, folder: RunDir) -> None:
    for path, read in ((folder.record, folder.read), (folder.run, folder.read_run)):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=path.name):
            read()


def test_lines_of_other_types_are_left_out(folder: RunDir) -> None:
    rows = [b"5", b"null", b"[]", b'{"step": "x", "loss": []}', DEEP, b'{"step": true, "loss": NaN}', b'{"step": 1']
    folder.curve.write_bytes(b"\n".join([*rows, b'{"step": 2, "loss": 0.5}\n']))
    assert folder.read_curve() == [{"step": 2, "loss": 0.5}]


@pytest.mark.parametrize("row", ["5", "null", "[]", '{"id": "a"}', '{"id": 1, "prediction": "x", "reference": 1}'])
def test_rows_that_are_no_predictions_are_named_by_line(row: str, folder: RunDir) -> None:
    folder.predictions("gqa").write_bytes(gzip.compress(f"{row}\n".encode()))
    with pytest.raises(CorruptFile, match=r"gqa\.jsonl\.gz: line 1"):
        folder.read_predictions("gqa")


@pytest.mark.parametrize("header", [b"[]", b"5", DEEP, b'{"a": 5}', b'{"a": {"data_offsets": ["x"]}}'])
def test_a_header_of_weights_that_is_none(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CorruptFile, match=r"weights\.safetensors"):
        check_weights(path)


@pytest.mark.parametrize("content", [b"null", DEEP, b'{"pid": "x"}', b"{}", b"\xff"])
@pytest.mark.parametrize("name", ["1", "9" * 30, "01", "²"])
def test_claims_that_no_process_made(content: bytes, name: str, folder: RunDir) -> None:
    folder.claim.mkdir()
    (folder.claim / name).write_bytes(content)
    folder.attempts.mkdir()
    (folder.attempts / f"{name}.json").write_bytes(content)
    claim = claim_files.current(folder.claim)
    assert (claim is None) == (name != "1")
    assert claim is None or claims.ClaimObserver().verdict(claim) == "unknown"
    assert [attempt.host for attempt in attempts.read(folder)] == ["unknown"] * (name == "1")


@pytest.mark.parametrize("kind", NO_FILE)
def test_a_claim_that_is_no_file_is_a_process_of_another_host(kind: str, tmp_path: Path) -> None:
    replace_by(tmp_path / "1", kind)
    claim = claim_files.current(tmp_path)
    assert claim is None or claim.owner.host == "unknown"


def test_undecodable_bytes_of_the_environment_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad = os.fsdecode(b"n\xff")
    monkeypatch.setenv("SLURMD_NODENAME", bad)
    monkeypatch.setenv("SLURM_JOB_ID", bad)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    owner = claim_files.this_process()
    assert (claim_files.node(), owner.job) == ("n?", "n?")
    environment.environment.cache_clear()
    assert environment.environment()["job_id"] == "n?"
    environment.environment.cache_clear()
    write_json(tmp_path / "x.json", {"path": bad})
    assert json.loads((tmp_path / "x.json").read_text())["path"] == bad


@pytest.mark.parametrize("value", ["slurm", "local", "x", ""])
def test_a_stray_variable_of_submitit_is_no_job(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "SUBMITIT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", value)
    assert output_file(tmp_path) is None


@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1", "1e300", "x"])
def test_a_lease_that_cannot_be(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", value)
    with pytest.raises(UsageError, match="VLPET_BENCH_LEASE_SECONDS"):
        claim_files.lease_seconds()


@pytest.mark.parametrize(
    ("words", "named"), [({"device": "cuda:99x"}, "--device cuda:99x"), ({"threads": -5}, "--threads -5")]
)
def test_an_execution_that_cannot_be(words: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Execution(**words)


def test_a_seed_that_no_generator_takes() -> None:
    with pytest.raises(UsageError, match="seed"):
        resolve("mini-bart", "lora", "image-text", seed=2**63)


def test_a_device_that_is_not_there_leaves_no_trace(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device cuda:99"):
        work_through([run], Execution(device="cuda:99"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_bad_input_in_a_run_leaves_no_record_and_the_others_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_one(run: Run, *others: Any) -> Record:
        if run.seed == 1:
            raise UsageError("a.json: no such file")
        return fake_runs.run_one(run, *others)

    monkeypatch.setattr("bench.run.run_one", run_one)
    second = run.model_copy(update={"seed": 2})
    faults = work_through([run, second], Execution(), tmp_path)
    assert [str(fault) for fault in faults] == ["a.json: no such file"]
    assert not RunDir(tmp_path, run.id).record.exists()
    assert (state(tmp_path, run).name, state(tmp_path, second).name) == ("interrupted", "done")
    assert "a.json" in state(tmp_path, run).note


def test_a_results_folder_that_is_not_there_is_named_with_its_near_matches(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(UsageError, match="reslts: no such results folder; did you mean 'results'"):
        load_results(tmp_path / "reslts")
    assert len(load_results(tmp_path / "results")) == len(load_results(tmp_path / "none", missing_ok=True)) == 0
