"""Records: whole or not there, corrupt ones reported, and the tidy frame that reports read."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import fake_runs
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench
import methods
from bench import environment, files, records
from bench.config import Execution, Run, resolve
from bench.errors import UsageError
from bench.files import CorruptFile, read_json_lines
from bench.record_schema import Failure, Record, Score, classify
from bench.records import COLUMNS, load_results
from bench.run_dir import ExampleScores, RunDir
from methods.core.errors import MethodError


@pytest.fixture(scope="module")
def run() -> Run:
    return resolve("bart-base", "lora", "image-text", settings={"rank": 8})


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> RunDir:
    """A finished run."""
    fake_runs.run_one(run, Execution(), tmp_path)
    return RunDir(tmp_path, run.id)


def test_what_is_written_is_what_is_read(run: Run, tmp_path: Path) -> None:
    folder = RunDir(tmp_path, run.id)
    assert folder.read() is None
    folder.begin(run)
    assert folder.read() is None
    assert Run.model_validate_json(folder.run.read_text()) == run
    record = Record(id=run.id, status="failed", cause="oom", run=run, memory={"phases": {"train": {"allocated": None}}})
    folder.finish(record)
    assert folder.read() == record
    assert json.loads(folder.record.read_text())["schema"] == 1


def test_a_process_killed_while_it_writes_leaves_the_file_as_it_was(folder: RunDir) -> None:
    before = folder.record.read_bytes()
    code = """
import os, signal, sys
from pathlib import Path
from bench import files
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
files.write_json(Path(sys.argv[1]), {"much": list(range(100000))})
"""
    died = subprocess.run([sys.executable, "-c", code, str(folder.record)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert folder.record.read_bytes() == before
    assert folder.read() is not None


def test_a_reader_sees_the_old_file_or_the_new_one_never_a_part(folder: RunDir) -> None:
    record, before = folder.read(), folder.record.read_text()
    assert record is not None
    with folder.record.open() as reader:
        folder.finish(record.model_copy(update={"finished": "later"}))
        assert reader.read() == before
    assert folder.record.read_text() != before


def test_a_full_disk_is_one_clear_error_and_harms_nothing(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record, before = folder.read(), folder.record.read_bytes()
    assert record is not None
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"record\.json: cannot be written \(No space left.*--results"):
        folder.finish(record)
    assert folder.record.read_bytes() == before
    assert not list(folder.path.glob(".record*"))


def test_a_results_folder_that_cannot_be_is_one_clear_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        RunDir(tmp_path / "results", run.id).begin(run)


@given(part=st.floats(0, 0.999))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_record_is_corrupt(folder: RunDir, part: float) -> None:
    content = folder.record.read_bytes().rstrip()
    try:
        folder.record.write_bytes(content[: int(part * len(content))])
        with pytest.raises(CorruptFile, match=r"record\.json"):
            folder.read()
    finally:
        folder.record.write_bytes(content)


@pytest.mark.parametrize("content", ["[]", "5", "null", '"x"'])
def test_a_record_that_is_no_object_is_corrupt(folder: RunDir, content: str) -> None:
    folder.record.write_text(content)
    with pytest.raises(CorruptFile, match="is no JSON object"):
        folder.read()


@pytest.mark.parametrize(
    "change",
    [{"status": "splendid"}, {"run": {}}, {"id": "another"}, {"scores": {"vqa": 3}}, {"cause": "bad luck"}],
)
def test_a_record_that_does_not_fit_the_schema_is_corrupt(folder: RunDir, change: dict[str, Any]) -> None:
    folder.record.write_text(json.dumps(json.loads(folder.record.read_text()) | change))
    with pytest.raises(CorruptFile, match=r"record\.json"):
        folder.read()


def test_fields_of_a_newer_version_are_kept(folder: RunDir) -> None:
    folder.record.write_text(json.dumps(json.loads(folder.record.read_text()) | {"energy": {"joules": 3}}))
    record = folder.read()
    assert record is not None
    folder.finish(record)
    assert json.loads(folder.record.read_text())["energy"] == {"joules": 3}


@pytest.mark.parametrize("content", [b"", b"\x02", fake_runs.WEIGHTS + b"more", b"\xff" * 20, b"\x03\0\0\0\0\0\0\0{}"])
def test_broken_weights_make_a_finished_run_corrupt(folder: RunDir, content: bytes) -> None:
    folder.weights.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"weights\.safetensors"):
        folder.read()


def test_true_weights_are_whole(folder: RunDir) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3, 2), "b": torch.ones(4)}, folder.weights, metadata={"k": "v"})
    assert folder.read() is not None
    folder.weights.write_bytes(folder.weights.read_bytes()[:-1])
    with pytest.raises(CorruptFile):
        folder.read()


def test_an_earlier_attempt_is_put_aside_not_overwritten(run: Run, folder: RunDir) -> None:
    for attempt in (1, 2):
        folder.record.write_text(f"broken {attempt}")
        folder.begin(run)
        assert not folder.record.exists()
        assert (folder.path / f"attempt-{attempt}" / "record.json").read_text() == f"broken {attempt}"
    assert (folder.path / "attempt-1" / "weights.safetensors").read_bytes() == fake_runs.WEIGHTS


def test_an_interrupted_attempt_is_gone_on_with(run: Run, tmp_path: Path) -> None:
    folder = RunDir(tmp_path, run.id)
    folder.begin(run)
    folder.checkpoint.write_text("half way")
    folder.begin(run)
    assert folder.checkpoint.read_text() == "half way"


def test_predictions_are_kept_and_a_torn_file_is_named(folder: RunDir) -> None:
    rows = [
        {"id": "1", "prediction": "naïve ☃", "reference": {"yes": 1.0}},
        {"id": "2", "prediction": "", "reference": 0},
    ]
    folder.write_predictions("vqa", rows)
    assert folder.read_predictions("vqa") == rows
    path = folder.predictions("vqa")
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(CorruptFile, match=r"vqa\.jsonl\.gz"):
        folder.read_predictions("vqa")
    with pytest.raises(CorruptFile, match=r"gqa\.jsonl\.gz"):
        path.unlink()
        folder.predictions("gqa").unlink()
        folder.read_predictions("gqa")


SEPARATORS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]  # of str.splitlines


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_a_line_separator_inside_a_text_does_not_break_a_file_of_lines(folder: RunDir, separator: str) -> None:
    assert len(f"a{separator}b".splitlines()) == 2
    rows = [{"id": str(i), "prediction": f"a{separator}b", "reference": separator} for i in range(2)]
    folder.write_predictions("vqa", rows)
    assert folder.read_predictions("vqa") == rows
    folder.curve.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), newline="")
    assert read_json_lines(folder.curve) == rows


def test_files_have_the_permissions_of_the_umask(folder: RunDir) -> None:
    from bench import backbones

    model = backbones.build("mini-bart", feat_dim=4)
    handle = methods.attach(model, methods.get("ia3"))
    before = os.umask(0o027)
    try:
        files.write_json(folder.progress, {})
        folder.write_predictions("gqa", [])
        handle.save(folder.weights)
    finally:
        os.umask(before)
    for path in (folder.progress, folder.predictions("gqa"), folder.weights):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path


def test_scores_of_examples_are_read_as_written(folder: RunDir) -> None:
    assert folder.read_scores("vqa") is None
    scores = ExampleScores(metric="accuracy", edition="first", split="test", ids=["a", "b"], scores=[0.0, 100 / 3])
    folder.write_scores("vqa", scores)
    assert folder.read_scores("vqa") == scores
    folder.write_scores("vqa", scores.model_copy(update={"ids": ["a"]}))
    with pytest.raises(CorruptFile, match=r"vqa\.json\.gz: has 1 ids and 2 scores"):
        folder.read_scores("vqa")
    folder.scores("vqa").write_bytes(b"torn")
    with pytest.raises(CorruptFile, match=r"vqa\.json\.gz"):
        folder.read_scores("vqa")


def test_a_torn_last_line_of_a_curve_is_dropped(folder: RunDir) -> None:
    folder.append(folder.curve, {"step": 1})
    folder.append(folder.curve, {"step": 2})
    folder.curve.write_text(folder.curve.read_text()[:-4])
    assert read_json_lines(folder.curve) == [{"step": 1}]
    assert read_json_lines(folder.path / "none.jsonl") == []


def test_classify() -> None:
    torch = pytest.importorskip("torch")
    causes = {
        "oom": [
            MemoryError(),
            torch.OutOfMemoryError("x"),
            RuntimeError("DefaultCPUAllocator: not enough memory: ..."),
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ..."
            ),
        ],
        "nan": [FloatingPointError("x")],
        "timeout": [TimeoutError("x"), subprocess.TimeoutExpired("java", 3)],
        "interrupted": [KeyboardInterrupt()],
        "unsupported": [MethodError("x")],
        "error": [ValueError("x"), KeyError("memory")],
    }
    assert {cause: [classify(e) for e in errors] for cause, errors in causes.items()} == {
        cause: [cause] * len(errors) for cause, errors in causes.items()
    }


def test_no_results_are_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    frame = bench.load_results(tmp_path)
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 0


def test_the_frame_has_a_row_per_run_and_task(folder: RunDir, run: Run, tmp_path: Path) -> None:
    record = folder.read()
    assert record is not None
    broken = Score(status="failed", split="test", metric="CIDEr", error="no Java")
    extra = {
        "parameters": {"trainable": 10, "total": 40, "percent": 25.0},
        "memory": {"phases": {"train": {"allocated": None, "host_rss": 7}}, "analytic": {"weights": 160}},
        "scores": {**record.scores, "caption": broken},
    }
    folder.finish(record.model_copy(update=extra))
    other = resolve("bart-base", "full", "video-text", task_names=("tvqa", "tvc"))
    lost = Failure(phase="train", type="X", message="y")
    RunDir(tmp_path, other.id).begin(other)
    RunDir(tmp_path, other.id).finish(Record(id=other.id, status="failed", cause="nan", error=lost, run=other))

    frame = load_results(tmp_path).set_index(["method", "task"])
    assert list(frame.loc["lora"].index) == ["vqa", "gqa", "nlvr", "caption"]
    vqa, caption, tvc = frame.loc[("lora", "vqa")], frame.loc[("lora", "caption")], frame.loc[("full", "tvc")]
    assert (vqa["score"], vqa["status"], vqa["metric"], pd.isna(vqa["cause"])) == (50.0, "done", "accuracy", True)
    assert (vqa["trainable"], vqa["percent"], vqa["host_memory_bytes"], vqa["analytic_weights"]) == (10, 25.0, 7, 160)
    assert pd.isna(vqa["peak_memory_bytes"])
    assert json.loads(vqa["overrides"]) == {"rank": 8}
    assert (vqa["family"], vqa["task_label"], tvc["family"]) == ("low rank", "VQAv2", methods.get("full").family)
    assert records.family("a method that is not registered") == "other"
    assert (caption["status"], caption["cause"]) == ("failed", "error")
    assert pd.isna(caption["score"])
    assert (tvc["status"], tvc["cause"], tvc["backbone"]) == ("failed", "nan", "bart-base")
    assert list(frame.loc["full"].index) == ["tvqa", "tvc"]


def test_corrupt_and_foreign_records_are_left_out_with_a_warning(folder: RunDir, tmp_path: Path) -> None:
    for name, content in (("torn", "{"), ("foreign", folder.record.read_text())):
        other = RunDir(tmp_path, name)
        other.path.mkdir()
        other.weights.write_bytes(fake_runs.WEIGHTS)
        other.record.write_text(content)
    foreign = json.loads(folder.record.read_text())
    foreign |= {"id": "foreign", "run": foreign["run"] | {"suite": "audio-text", "tasks": []}}
    RunDir(tmp_path, "foreign").record.write_text(json.dumps(foreign))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = load_results(tmp_path)
    assert set(frame["run_id"]) == {folder.id}
    messages = " ".join(str(warning.message) for warning in caught)
    assert "torn" in messages
    assert "audio-text" in messages


def test_the_commit_is_dirty_when_sources_changed_even_by_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "bench" / "environment.py"))
    captured = environment.environment.__wrapped__
    assert captured()["git_commit"] is captured()["git_dirty"] is None
    for name in ("bench", "methods"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "notes.txt").write_text("unrelated")
    assert len(captured()["git_commit"]) == 40
    assert captured()["git_dirty"] is False
    (tmp_path / "methods" / "new.py").write_text("2")
    assert captured()["git_dirty"] is True
