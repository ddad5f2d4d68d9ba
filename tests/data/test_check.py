"""The check of a data root finds what is broken and names it, and says what is not the published data."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.cli import main
from bench.data import feature_files
from bench.data.check import check
from bench.data.verified_features import VerifiedFeatures
from bench.mini.world import FEATURE_COLUMNS

SUITES = ["image-text", "video-text"]


def checked(root: Path, *names: str) -> tuple[list[str], list[str]]:
    """Return the names of the splits that are right, and name and fault of those that are not."""
    reports = [report for name in names or SUITES for report in check(root, name, n_boxes=36)]
    right = [report.name for report in reports if not report.fault]
    return right, [f"{report.name}: {report.fault}" for report in reports if report.fault]


def printed(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Return the exit code of ``data check``, and its lines."""
    code = main(["data", "check", str(root), *words])
    return code, capsys.readouterr().out.splitlines()


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the data, without what says how features were extracted: tests write others."""
    return Path(shutil.copytree(tiny_root, tmp_path / "root", ignore=shutil.ignore_patterns("extraction.*")))


def test_a_whole_root_has_no_fault(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(tiny_root, capsys)
    assert code == 0
    assert sum(line.startswith("ok ") for line in lines) == 23  # eight tasks, three splits each, GQA two
    assert "ok     gqa train: 54 examples (train + valid)" in lines
    notes = [line for line in lines if not line.startswith("ok ") and "extracted by mini" not in line]
    assert len(notes) == 1
    assert notes[0].startswith(
        "note   tvqa test: tolerated 9 examples that stand in two files (TVQA's public questions do"
    )


def test_other_numbers_than_the_official_ones_are_told_of_real_data(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "mini.json").unlink()
    code, lines = printed(root, capsys)
    assert code == 1
    assert "incomplete gqa train: 54 examples (train + valid); the published files have 1,075,062" in lines
    assert any(line.endswith("; the published files have 10,337") for line in lines if "incomplete yc2c train" in line)
    assert not any("published" in line for line in lines if "tvc validation" in line)  # not known
    assert lines[-1].endswith("say so with --partial")
    code, lines = printed(root, capsys, "--partial", "--features", "sample")
    assert code == 0
    assert "ok     gqa train: 54 examples (train + valid); the published files have 1,075,062" in lines


def test_only_the_suites_asked_for_are_read(root: Path) -> None:
    shutil.rmtree(root / "video")
    assert checked(root, "image-text")[1] == []
    assert len(checked(root, "video-text")[1]) == 12


def test_a_broken_record_is_named_and_the_rest_is_still_checked(root: Path) -> None:
    file = root / "nlvr" / "valid.json"
    records = json.loads(file.read_text())
    del records[2]["sent"]
    file.write_text(json.dumps(records))
    right, wrong = checked(root, "image-text")
    assert len(wrong) == 1
    assert str(file) in wrong[0]
    assert "record 2" in wrong[0]
    assert "'sent'" in wrong[0]
    assert len(right) == 10


def test_every_feature_file_is_looked_for_not_only_a_sample(root: Path) -> None:
    folder = root / "VG" / "clip_features" / "data_clip_RN101_att"
    lost = sorted(folder.iterdir())[-2:]
    for file in lost:
        file.unlink()
    _, wrong = checked(root, "image-text")
    assert len(wrong) == 1
    assert str(lost[0]) in wrong[0] or str(lost[1]) in wrong[0]
    assert "like 1 more" in wrong[0]


def test_a_missing_feature_folder_is_told_once_per_split(root: Path) -> None:
    shutil.rmtree(root / "video" / "vis_features" / "yc2")
    _, wrong = checked(root, "video-text")
    assert [fault.split(":")[0] for fault in wrong] == ["yc2c train", "yc2c validation", "yc2c test"]


def test_features_of_another_kind_are_named(root: Path) -> None:
    for file in (root / "nlvr" / "clip_features" / "data_clip_RN101_att").iterdir():
        with h5py.File(file, "w") as store:
            store.create_dataset(f"{file.stem}/features", data=np.ones((9, 7), np.float16))
    _, wrong = checked(root, "image-text")
    assert [fault.split(":")[0] for fault in wrong] == ["nlvr train", "nlvr validation", "nlvr test"]
    assert "7 columns" in wrong[0]


def test_features_are_read_in_processes_and_only_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that was interrupted goes on where it ended; a file is read again when it has changed."""
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path / "cache"))
    folder = root / "nlvr" / "clip_features" / "data_clip_RN101_att"
    bad = sorted(folder.iterdir())[:2]
    for file in bad:
        file.write_bytes(b"no h5")
    code, lines = printed(root, capsys, "--suite", "image-text", "--jobs", "2")
    (fault,) = [line for line in lines if line.startswith("fault")]
    assert code == 2
    assert all(file.name in fault for file in bad) and "1 more files of this split are faulty" in fault
    read: list[str] = []
    original = feature_files.read
    monkeypatch.setattr(feature_files, "read", lambda path, kind: (read.append(path.name), original(path, kind))[1])
    for file in bad:
        with h5py.File(file, "w") as store:
            store.create_dataset(f"{file.stem}/features", data=np.ones((9, FEATURE_COLUMNS), np.float16))
    assert printed(root, capsys, "--suite", "image-text", "--jobs", "1")[0] == 0
    assert sorted(read) == [file.name for file in bad]
    with pytest.MonkeyPatch.context() as patch:  # a torn line costs one file
        (cache,) = [p for p in (tmp_path / "cache" / "features").iterdir() if bad[0].name in p.read_text()]
        cache.write_text(cache.read_text()[:-9])
        patch.setattr(VerifiedFeatures, "flush", lambda self: None)
        read.clear()
        assert printed(root, capsys, "--suite", "image-text", "--jobs", "1")[0] == 0
    assert len(read) == 1


@pytest.mark.parametrize("verb", ["run", "sweep"])
def test_runs_on_a_part_of_the_published_data_are_asked_for_and_marked(
    verb: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "mini.json").unlink()
    words = [verb, *{"run": ["--method", "ia3"], "sweep": ["--methods", "ia3", "--suites", "image-text"]}[verb]]
    words += ["--set", "steps=1", "--set", "batch_size=2", "--set", "beams=1", "--quiet", "--data", f"official={root}"]
    words += ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    assert main(words) == 2
    assert "not the published data: vqa train has 48 of 605,102 examples; " in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    assert main([*words, "--partial"]) == 0
    (path,) = (tmp_path / "results").rglob("record.json")
    record = json.loads(path.read_text())
    assert record["limited"] is True and "vqa train has 48 of 605,102 examples" in record["data"]["lacks"]
    assert "not the published ones" in record["notes"][0]
    if verb == "sweep":
        assert "limited run (cut short for a try-out, or on a part of the published data)" in capsys.readouterr().out
        shutil.rmtree(root)  # what is done reads nothing more
        assert main(words) == 0
