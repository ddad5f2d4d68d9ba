"""What runs will read is checked before the first of them, in full, and remembered until a file changes."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bench import tasks
from bench.cli import main
from bench.config import Execution, Run, resolve
from bench.data import check as check_module
from bench.data import feature_inspection
from bench.data.check import check_for_runs, splits_of
from bench.data.roots import locate
from bench.errors import UsageError
from bench.mini.world import FEATURE_COLUMNS

GRIDS = "clip_features/data_clip_RN101_att"

NAN = np.full((9, FEATURE_COLUMNS), np.nan)


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data, without what says how features were extracted, and an empty cache."""
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(tiny_root, tmp_path / "root", ignore=shutil.ignore_patterns("extraction.*")))


def run_of(suite: str = "image-text", chosen: tuple[str, ...] = (), **recipe: Any) -> Run:
    run = resolve("mini-bart", "bitfit", suite, settings={"steps": 2, **recipe})
    return run.model_copy(update={"tasks": chosen}) if chosen else run


def examine(root: Path, *runs: Run) -> None:
    check_for_runs(runs or (run_of(),), Execution(data={"mini": root}))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps(row) for row in change(rows)))
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()))))


def fill(path: Path, values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file[f"{path.stem}/features"] = values


def grids(root: Path, source: str) -> list[Path]:
    return sorted((root / source / GRIDS).iterdir())


def test_good_data_pass(root: Path) -> None:
    examine(root, run_of(), run_of("video-text"))


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "value of a reported split": (
        lambda root: edit(root / "nlvr/test.json", lambda rows: [rows[0] | {"label": 7}, *rows[1:]]),
        r"^nlvr test: .*test\.json: record 0: key 'label' is 7",
    ),
    "empty training file": (
        lambda root: edit(root / "vqa/karpathy_train.json", lambda rows: []), "^vqa train: .*has no records"
    ),
    "NaN in one file": (lambda root: fill(grids(root, "GQA")[3], NAN), "^gqa validation: .*NaN"),
    "missing file": (lambda root: grids(root, "VG")[2].unlink(), "^gqa train: .*no such feature file"),
    "FIFO": (
        lambda root: (grids(root, "VG")[2].unlink(), os.mkfifo(root / "VG" / GRIDS / "3.h5")), "^gqa train: .*FIFO"
    ),
    "other tokens": (
        lambda root: fill(root / "nlvr" / GRIDS / "train-3-0-img0.h5", np.ones((4, FEATURE_COLUMNS))),
        "nlvr train: .*tokens .rows., but nlvr/.*one kind of features",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_before_a_run_begins(name: str, root: Path) -> None:
    examine(root)
    damage, message = FAULTS[name]
    damage(root)
    with pytest.raises(UsageError, match=message):
        examine(root)


def test_all_faults_are_told_at_once(root: Path) -> None:
    edit(root / "nlvr/train.json", lambda rows: rows[:0])
    edit(root / "GQA/testdev.json", lambda rows: rows[:0])
    with pytest.raises(UsageError) as caught:
        examine(root)
    first, *lines = str(caught.value).splitlines()
    assert first == "the data have 2 faults; nothing was run"
    assert [line.split(":")[0] for line in lines] == ["  gqa validation", "  nlvr train"]


def test_only_what_the_runs_read_is_examined(root: Path) -> None:
    for name in ("vqa/karpathy_val.json", "nlvr/train.json"):
        (root / name).unlink()
    examine(root, run_of(chosen=("gqa", "caption")), run_of(chosen=("vqa",)))
    with pytest.raises(UsageError, match=r"^vqa validation: .*no such file"):
        examine(root, run_of(chosen=("vqa",), validate="epoch"))


def test_the_splits_of_a_run() -> None:
    assert splits_of(run_of(), tasks.get("vqa")) == ["train", "test"]
    assert splits_of(run_of(validate="epoch"), tasks.get("vqa")) == ["train", "validation", "test"]
    assert splits_of(run_of(evaluate="tuning"), tasks.get("vqa")) == ["train", "validation"]
    assert splits_of(run_of(evaluate="tuning"), tasks.get("gqa")) == ["train"]


@pytest.mark.parametrize("tokens", [50, 49])
def test_a_grid_that_is_no_square_needs_as_many_boxes(tokens: int, root: Path, capsys: pytest.CaptureFixture) -> None:
    for source in ("COCO", "VG", "GQA", "nlvr"):
        for path in grids(root, source):
            fill(path, np.ones((tokens, FEATURE_COLUMNS), np.float16))
    examine(root, run_of(n_boxes=50))
    command = ["data", "check", str(root), "--suite", "image-text"]
    assert main([*command, "--n-boxes", "50"]) == 0
    assert main(command) == (0 if tokens == 49 else 2)
    if tokens == 50:
        assert "--set n_boxes=50" in capsys.readouterr().out
        with pytest.raises(UsageError, match=r"50 tokens .rows. are no square grid.*--set n_boxes=50"):
            examine(root, run_of(n_boxes=36))


def test_frames_must_fit_into_the_boxes_too(root: Path) -> None:
    with pytest.raises(UsageError, match=r"n_frames=40: 40 frames are no square grid"):
        examine(root, run_of("video-text", n_frames=40, n_boxes=16))


def test_nothing_is_read_again_until_something_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examine(root)
    original = check_module.read_with_tolerances
    read: list[str] = []

    def watched(task: tasks.Task, *words: Any) -> Any:
        read.append(task.name)
        return original(task, *words)

    monkeypatch.setattr(check_module, "read_with_tolerances", watched)
    begun = time.monotonic()
    examine(root)
    assert read == []
    assert time.monotonic() - begun < 2
    grid = grids(root, "nlvr")[0]
    with h5py.File(grid, "r+") as file:
        file[f"{grid.stem}/features"][0, 0] += 1  # the size of the file stays
    examine(root)
    assert set(read) == {"nlvr"}
    edit(root / "GQA/train.json", lambda rows: rows[:-1])
    examine(root)
    assert set(read) == {"vqa", "gqa", "nlvr", "caption"}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[" * 100_000, b'{"vqa/train": 5}', b'{"vqa/train": {"signature": 1}}', b"\xff"],
    ids=["empty", "list", "nested", "number", "part", "no text"],
)
def test_a_cache_that_is_broken_is_an_empty_one(content: bytes, root: Path, tmp_path: Path) -> None:
    examine(root)
    (path,) = (tmp_path / "cache/checks").iterdir()
    path.write_bytes(content)
    examine(root)


def test_large_features_are_read_in_part_before_a_run_and_whole_by_the_check(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_inspection, "FULL_BYTES", 0)
    monkeypatch.setattr(feature_inspection, "SAMPLE", 2)
    names = [example.visual[0] for example in tasks.get("gqa").read(root, "validation")]
    bad = root / names[-1]
    fill(bad, NAN)
    examine(root)
    assert main(["data", "check", str(root), "--suite", "image-text"]) == 2
    bad.unlink()
    with pytest.raises(UsageError, match="no such feature file"):
        examine(root)


def a_file(path: Path) -> Path:
    path.write_text("")
    return path


def a_loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


CACHES: dict[str, Callable[[Path], Path]] = {
    "file": a_file,
    "loop": a_loop,
    "too long": lambda path: path / ("x" * 300),
    "device": lambda path: Path("/dev/null"),
    "below a file": lambda path: a_file(path) / "cache",
    "not writable": lambda path: Path("/proc/1/cache"),
}


@pytest.mark.parametrize("kind", CACHES)
def test_a_cache_folder_that_is_none_is_one_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(CACHES[kind](tmp_path / "cache")))
    with pytest.raises(UsageError, match=r"miniature data cannot be written there .*set VLPET_BENCH_CACHE to a folder"):
        locate("mini", "image-text", {})


@pytest.mark.parametrize("kind", CACHES)
def test_the_check_of_named_data_needs_no_cache(
    kind: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(CACHES[kind](tmp_path / "none")))
    examine(root)


def test_a_negative_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "mini", str(tmp_path / "new"), "--seed", "-1"]) == 2
    assert "--seed -1: expected a whole number of at least 0" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_video_without_subtitles_costs_that_video_and_the_record_says_so(root: Path, tmp_path: Path) -> None:
    used = [json.loads(line) for line in (root / "video/ann/how2qa/how2qa_val_release.jsonl").read_text().splitlines()]
    edit(
        root / "video/ann/how2_subtitles.jsonl",
        lambda rows: [row for row in rows if row["vid_name"] != used[0]["vid_name"]],
    )
    words = [
        "run",
        "--method",
        "bitfit",
        "--suite",
        "video-text",
        "--set",
        "steps=1",
        "--set",
        "batch_size=2",
        "--quiet",
    ]
    folders = ["--results", str(tmp_path / "r"), "--data", f"mini={root}"]
    assert main([*words, *folders]) == 0
    (path,) = (tmp_path / "r").rglob("record.json")
    record = json.loads(path.read_text())
    lost = sum(row["vid_name"] == used[0]["vid_name"] for row in used)
    assert record["scores"]["how2qa"]["n"] == len(used) - lost
    assert record["data"]["tolerated"]["how2qa validation"] == {"examples of videos without subtitles, left out": lost}


@pytest.mark.parametrize("verb", ["run", "sweep"])
def test_faulty_data_end_the_command_before_anything_is_written(
    verb: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in grids(root, "GQA"):
        fill(path, NAN)
    method = {"run": "--method", "sweep": "--methods"}[verb]
    words = [verb, method, "bitfit", "--set", "steps=1", "--results", str(tmp_path / "r"), "--data", f"mini={root}"]
    assert main([*words, *(["--suites", "image-text"] if verb == "sweep" else [])]) == 2
    error = capsys.readouterr().err
    assert "gqa validation: " in error and ".h5: 'n10/features' has" in error
    assert not (tmp_path / "r").exists()
