"""Pictures beside features: found by the official layout or in a folder of the user's, and shown small."""

import base64
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench.cli import main
from bench.data.picture_index import PictureIndex, thumbnails


def picture(path: Path, size: tuple[int, int] = (640, 480)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)
    return path


def test_pictures_are_found_where_the_official_layout_has_them(tmp_path: Path) -> None:
    """Two data sets may use the same number: a picture of Visual Genome is not a clip of HowTo."""
    coco = picture(tmp_path / "COCO/images/val2014/COCO_val2014_000000000541.jpg")
    genome = picture(tmp_path / "VG/images/7.png")
    frames = [picture(tmp_path / f"video/frames/how2/7/{index:03}.jpg") for index in (1, 0)]
    index = PictureIndex(tmp_path)
    assert index.find("COCO/clip_features/data_clip_RN101_att/COCO_val2014_000000000541.h5") == [coco]
    assert index.find("VG/clip_features/data_clip_RN101_att/7.h5") == [genome]
    assert index.find("video/vis_features/how2/clip-vit/7.npz") == sorted(frames)
    assert index.find("GQA/clip_features/data_clip_RN101_att/7.h5") == []


def test_a_folder_of_the_users_stands_for_the_layout(tmp_path: Path) -> None:
    picture(tmp_path / "root/VG/images/7.png")
    own = picture(tmp_path / "own/deep/7.jpg")
    index = PictureIndex(tmp_path / "root", tmp_path / "own")
    assert index.find("VG/clip_features/data_clip_RN101_att/7.h5") == [own]


@pytest.mark.parametrize(("count", "shown", "side"), [(1, 1, 160), (2, 2, 140), (8, 4, 72)])
def test_thumbnails_are_few_and_small(count: int, shown: int, side: int, tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{index}.png") for index in range(count)]
    uris = thumbnails(paths)
    assert len(uris) == shown and sum(map(len, uris)) < 20_000
    for uri in uris:
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as small:
            assert max(small.size) == side


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(b"no picture")
    assert len(thumbnails([tmp_path / "torn.jpg", picture(tmp_path / "whole.png")])) == 1


@pytest.mark.parametrize(("task", "noun"), [("vqa", "picture  "), ("nlvr", "picture  "), ("tvc", "frames   ")])
def test_examples_are_shown_with_files_that_are_there(
    task: str, noun: str, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "show", str(tiny_root), "--task", task, "--number", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    files = [line.strip().removeprefix(noun).split(" (")[0] for line in lines if line.startswith(f"  {noun}")]
    assert len(files) == (4 if task == "nlvr" else 2) and all(Path(file).exists() for file in files)
    assert (
        sum(line.startswith("  source") for line in lines) == sum(line.startswith("  targets") for line in lines) == 2
    )


def test_without_pictures_the_feature_file_is_named(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny_root, root, ignore=shutil.ignore_patterns("images"))
    assert main(["data", "show", str(root), "--task", "gqa", "--number", "1"]) == 0
    assert "its picture is not here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--task T"),
        (["--task", "vqa", "--split", "dev"], "--split dev: vqa has"),
        (["nowhere", "--task", "vqa"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_shown_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", *words]) == 2
    assert message in capsys.readouterr().err
