"""Runs of other data, weights or methods than those that are there now: stale, never resumed, never averaged."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_world import TINY

from bench import backbones, fingerprints
from bench.cli import main
from bench.config import Execution, resolve
from bench.events import RunEvent
from bench.fingerprints import Expectations, differences, file_digest, labels
from bench.records import load_frame
from bench.run import run_one
from bench.run_dir import RunDir
from bench.sweep.run_state import state

SETTINGS: dict[str, Any] = {"steps": 4, "limit": 8, "batch_size": 4, "beams": 1, "checkpoint_every": 2}


@pytest.fixture
def root(tmp_path: Path, tiny_root: Path) -> Path:
    """A miniature root of its own."""
    return Path(shutil.copytree(tiny_root, tmp_path / "a"))


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    from bench.backbones.mini import CHECKPOINTS

    return Path(shutil.copytree(CHECKPOINTS["mini-bart"], tmp_path / "backbone"))


def changed(path: Path) -> None:
    """Change a byte of a file, and its time even where the clock is slow."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def sweep(tmp_path: Path, root: Path, *words: str) -> list[str]:
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    folders = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    grid = ["--methods", "ia3", "--suites", "image-text", "--tasks", "gqa", "--device", "cpu"]
    return ["sweep", *grid, *settings, *folders, "--data", f"mini={root}", "--quiet", *words]


@pytest.mark.parametrize("part", ["data", "features", "weights", "tokenizer", "method"])
def test_what_has_changed_makes_a_run_stale(
    part: str, root: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolve(str(backbone), "ia3", "image-text", task_names=["gqa"], settings=SETTINGS)
    record = run_one(run, Execution(device="cpu", data={"mini": root}), tmp_path)
    assert set(record.fingerprints) == {"data", "features", "backbone", "tokenizer", "method"}
    assert state(tmp_path, run, expected=Expectations({"mini": root})).name == "done"
    if part == "data":
        changed(root / "GQA" / "testdev.json")
    elif part == "features":
        next(root.glob("GQA/clip_features/*/*.h5")).write_bytes(b"")
    elif part == "weights":
        changed(backbone / "model.safetensors")
    elif part == "tokenizer":
        changed(backbone / "tokenizer.json")
    else:
        other = fingerprints.methods.get("lora").spec
        monkeypatch.setattr(type(fingerprints.methods.get("ia3")), "spec", lambda self, shape: other(shape))
    current = state(tmp_path, run, expected=Expectations({"mini": root}))
    name = {"data": "data GQA/testdev.json", "weights": "backbone model.safetensors", "method": "method spec"}
    assert current.name == "stale"
    assert name.get(part, part) in current.note and " then, " in current.note
    assert state(tmp_path, run).name == "done"


def test_the_fingerprint_of_annotations_is_of_their_content(tiny_root: Path, tmp_path: Path) -> None:
    def digest(root: Path, suite: str) -> str:
        return fingerprints.overall(fingerprints.annotation_digests(root, suite))

    other = Path(shutil.copytree(tiny_root, tmp_path / "elsewhere"))
    before = {suite: digest(tiny_root, suite) for suite in ("image-text", "video-text")}
    assert {suite: digest(other, suite) for suite in before} == before
    changed(other / "video" / "ann" / "tvc" / "tvc_val_release.jsonl")
    (other / "COCO" / "clip_features" / "notes.json").write_text("{}")
    assert digest(other, "video-text") != before["video-text"]
    assert digest(other, "image-text") == before["image-text"]


def test_what_is_added_changes_nothing(root: Path, tmp_path: Path) -> None:
    run = resolve("mini-bart", "ia3", "image-text", task_names=["gqa"], settings=SETTINGS)
    (root / "nlvr").rename(tmp_path / "nlvr")
    run_one(run, Execution(device="cpu", data={"mini": root}), tmp_path)
    (tmp_path / "nlvr").rename(root / "nlvr")
    assert state(tmp_path, run, expected=Expectations({"mini": root})).name == "done"


@pytest.mark.parametrize("choice", ["redo", "keep"])
def test_a_score_of_other_data_is_named_and_done_again_or_kept_by_choice(
    choice: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.mini.write.SIZES", TINY)
    other = tmp_path / "b"
    assert main(["data", "mini", str(other), "--seed", "3"]) == 0
    assert main(sweep(tmp_path, root)) == 0
    before = (load_frame(tmp_path / "results"))["run_id"].tolist()
    capsys.readouterr()
    assert main(sweep(tmp_path, other, "--dry-run", "--format", "json")) == 0
    (planned,) = json.loads(capsys.readouterr().out)
    assert planned["state"] == "to run" and "stale: data " in planned["note"]
    assert main(sweep(tmp_path, other, "--dry-run", "--format", "json", "--stale", "keep")) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "stale"
    assert main(sweep(tmp_path, other, "--stale", choice, "--seeds", "1,2")) == 0
    told = capsys.readouterr()
    assert f"{before[0]} is stale, it is {'done again' if choice == 'redo' else 'left as it is'}: data " in told.err
    frame = load_frame(tmp_path / "results", expected=Expectations({"mini": other})).set_index("run_id")
    assert frame["stale"].tolist() == [choice == "keep", False]
    assert frame["fingerprint"].nunique() == (2 if choice == "keep" else 1)
    assert (tmp_path / "results" / "runs" / before[0] / "attempt-1" / "record.json").exists() == (choice == "redo")


def test_a_training_on_other_data_is_not_resumed(root: Path, tmp_path: Path) -> None:
    run = resolve("mini-bart", "ia3", "image-text", task_names=["gqa"], settings=SETTINGS)
    execution, events = Execution(device="cpu", data={"mini": root}), []

    def stop(event: RunEvent) -> None:
        if event.kind == "step" and event.step == 3:
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt):
        run_one(run, execution, tmp_path, stop)
    folder = RunDir(tmp_path, run.id)
    assert folder.checkpoint.exists()
    path = root / "GQA" / "testdev.json"
    path.write_text(path.read_text() + " ")
    record = run_one(run, execution, tmp_path, events.append)
    assert record.status == "done" and record.segments[-1]["start_step"] == 0
    assert "data GQA/testdev.json" in record.notes[0] and "attempt-1" in record.notes[0]
    assert (folder.path / "attempt-1" / "checkpoint.pt").exists()
    assert any("began anew" in event.message for event in events if event.kind == "note")


def test_records_of_an_earlier_version_compare_what_they_have(root: Path, tmp_path: Path) -> None:
    run = resolve("mini-bart", "ia3", "image-text", task_names=["gqa"], settings=SETTINGS)
    record = run_one(run, Execution(device="cpu", data={"mini": root}), tmp_path)
    old = record.model_copy(update={"fingerprints": {}})
    RunDir(tmp_path, run.id).finish(old)
    assert state(tmp_path, run, expected=Expectations({"mini": root})).name == "done"
    assert len(set(labels([old, record.model_copy(update={"id": "b"})]).values())) == 1
    RunDir(tmp_path, run.id).finish(old.model_copy(update={"data": {}}))
    assert state(tmp_path, run, expected=Expectations({"mini": root})).name == "done"
    changed(root / "vqa" / "karpathy_test.json")
    RunDir(tmp_path, run.id).finish(old)
    assert "annotations all" in state(tmp_path, run, expected=Expectations({"mini": root})).note


def test_the_spelling_of_a_path_makes_no_other_run(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(backbone.parent)
    (backbone.parent / "link").symlink_to(backbone)
    spellings = [
        str(backbone),
        f"{backbone}/",
        "backbone",
        "./backbone/",
        f"{backbone.parent}/./backbone",
        "link",
        "link/",
    ]
    runs = [resolve(name, "ia3", "image-text") for name in spellings]
    assert len({run.id for run in runs}) == len({run.backbone for run in runs}) == 1
    assert backbones.canonical_name("bart-base") == "bart-base"


def test_a_snapshot_of_the_hub_is_the_hub_name(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = backbone.parent / "models--me--mine" / "snapshots" / "0af"
    shutil.copytree(backbone, snapshot)
    monkeypatch.setattr("bench.backbones.builder.folders", lambda name: (snapshot, snapshot))
    assert backbones.canonical_name(f"{snapshot}/") == "me/mine"
    monkeypatch.setattr("bench.backbones.builder.folders", lambda name: (None, None))
    assert backbones.canonical_name(f"{snapshot}/") == str(snapshot)


def test_digests_of_large_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "large"
    path.write_bytes(b"x" * fingerprints.CACHED_BYTES)
    os.utime(path, ns=(1, 10**18))
    digest = file_digest(path)
    (entry,) = (tmp_path / "cache" / "digests").iterdir()
    assert entry.read_text() == digest
    entry.write_text("torn")
    assert file_digest(path) == digest
    changed(path)
    assert file_digest(path) != digest
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(path))  # a cache folder that is none costs time only
    assert len(file_digest(path)) == 64


def test_differences_name_part_file_and_both_digests() -> None:
    assert differences({"backbone": {"a": "1"}}, {"backbone": {"a": "1", "b": "2"}}) == [
        "backbone b: not there then, 2 now"
    ]
    assert differences({"data": {"a": "1"}}, {"data": {}}) == ["data a: 1 then, not there now"]
    assert differences({"data": {"a": "1"}}, {}) == []
