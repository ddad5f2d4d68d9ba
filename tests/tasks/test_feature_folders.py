"""Which of several kinds of image features is read."""

from pathlib import Path

import pytest

from bench import tasks
from bench.errors import UsageError
from bench.tasks.files import grid_folder


def made(root: Path, *kinds: str) -> Path:
    for kind in kinds:
        (root / f"nlvr/clip_features/data_clip_{kind}_att").mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("kinds", "read"), [((), "RN101"), (("RN101",), "RN101"), (("RN50", "RN101", "ViT"), "RN101"), (("ViT",), "ViT")]
)
def test_the_usual_features_or_the_only_other_ones(kinds: tuple[str, ...], read: str, tmp_path: Path) -> None:
    assert grid_folder(made(tmp_path, *kinds), "nlvr") == f"nlvr/clip_features/data_clip_{read}_att"


def test_no_choice_among_others_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nlvr/clip_features: has data_clip_RN50_att and data_clip_ViT_att but no"):
        grid_folder(made(tmp_path, "ViT", "RN50"), "nlvr")


@pytest.mark.parametrize("name", tasks.names("image-text"))
def test_every_image_task_reads_the_features_that_are_there(name: str, tiny_root: Path, tmp_path: Path) -> None:
    for folder in ("COCO", "VG", "GQA", "nlvr", "vqa"):
        (tmp_path / folder).mkdir()
        for file in (tiny_root / folder).glob("*.json"):
            (tmp_path / folder / file.name).symlink_to(file)
        (tmp_path / folder / "clip_features/data_clip_RN50x4_att").mkdir(parents=True)
    task = tasks.get(name)
    files = {f for split in task.splits for e in task.read(tmp_path, split) for f in e.visual}
    assert {file.split("/")[2] for file in files} == {"data_clip_RN50x4_att"}
