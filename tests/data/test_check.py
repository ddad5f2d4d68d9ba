"""The check of a data root finds what is broken and names it; the fingerprint changes with the annotations."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.cli import main
from bench.data.check import check
from bench.fingerprints import annotation_digests, overall

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
    return Path(shutil.copytree(tiny_root, tmp_path / "root"))


def test_a_whole_root_has_no_fault(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(tiny_root, capsys)
    assert code == 0
    assert sum(line.startswith("ok ") for line in lines) == 23  # eight tasks, three splits each, GQA two
    assert "ok     gqa train: 54 examples (train + valid)" in lines
    notes = [line for line in lines if not line.startswith("ok ")]
    assert len(notes) == 1
    assert notes[0].startswith(
        "note   tvqa test: tolerated 3 examples that stand in two files (TVQA's public questions do"
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


def fingerprint(root: Path, suite: str) -> str:
    return overall(annotation_digests(root, suite))


def test_the_fingerprint_changes_with_a_suites_annotations_only(root: Path, tmp_path: Path) -> None:
    before = {suite: fingerprint(root, suite) for suite in SUITES}
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    assert {suite: fingerprint(moved, suite) for suite in SUITES} == before
    changed = Path(shutil.copytree(root, tmp_path / "changed"))
    file = changed / "video" / "ann" / "tvc" / "tvc_val_release.jsonl"
    file.write_text(file.read_text().replace("a", "e", 1))
    (changed / "COCO" / "clip_features" / "notes.json").write_text("{}")
    assert fingerprint(changed, "video-text") != before["video-text"]
    assert fingerprint(changed, "image-text") == before["image-text"]
