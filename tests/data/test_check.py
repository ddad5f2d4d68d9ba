"""The check of a data root finds what is broken and names it; the fingerprint changes with the annotations."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.data.check import check, fingerprint

SUITES = ["image-text", "video-text"]


def check_all(root: Path) -> tuple[list[str], list[str]]:
    (right, wrong), (also_right, also_wrong) = (check(root, suite) for suite in SUITES)
    return right + also_right, wrong + also_wrong


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_root, tmp_path / "root"))


def test_a_whole_root_has_no_fault(tiny_root: Path) -> None:
    right, wrong = check_all(tiny_root)
    assert wrong == []
    assert len(right) == 23  # eight tasks, three splits each, GQA two
    assert "gqa train: 54 examples (train + valid)" in right


def test_other_numbers_than_the_official_ones_are_told_of_real_data(root: Path) -> None:
    (root / "mini.json").unlink()
    right, wrong = check_all(root)
    assert wrong == []
    assert "gqa train: 54 examples (train + valid); the official files have 1,075,062" in right
    assert any(line.startswith("yc2c train:") and line.endswith("; the official files have 10,337") for line in right)
    assert not any("official" in line for line in right if line.startswith("tvc validation"))  # not known


def test_only_the_suites_asked_for_are_read(root: Path) -> None:
    shutil.rmtree(root / "video")
    assert check(root, "image-text")[1] == []
    assert len(check(root, "video-text")[1]) == 12


def test_a_broken_record_is_named_and_the_rest_is_still_checked(root: Path) -> None:
    file = root / "nlvr" / "valid.json"
    records = json.loads(file.read_text())
    del records[2]["sent"]
    file.write_text(json.dumps(records))
    right, wrong = check(root, "image-text")
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
    _, wrong = check(root, "image-text", sample=1)
    assert len(wrong) == 1
    assert str(lost[0]) in wrong[0] or str(lost[1]) in wrong[0]
    assert "like 1 more" in wrong[0]


def test_a_missing_feature_folder_is_told_once_per_split(root: Path) -> None:
    shutil.rmtree(root / "video" / "vis_features" / "yc2")
    _, wrong = check(root, "video-text")
    assert [fault.split(":")[0] for fault in wrong] == ["yc2c train", "yc2c validation", "yc2c test"]


def test_features_of_another_kind_are_named(root: Path) -> None:
    for file in (root / "nlvr" / "clip_features" / "data_clip_RN101_att").iterdir():
        with h5py.File(file, "w") as store:
            store.create_dataset(f"{file.stem}/features", data=np.ones((9, 7), np.float16))
    _, wrong = check(root, "image-text")
    assert [fault.split(":")[0] for fault in wrong] == ["nlvr train", "nlvr validation", "nlvr test"]
    assert "7 columns" in wrong[0]


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
