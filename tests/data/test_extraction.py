"""Extraction of features: whole files only, the same values however it is interrupted, and nothing mixed."""

import json
import shutil
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from bench import encoders
from bench.cli import main
from bench.data import extraction, feature_files
from bench.data.extraction import extract
from bench.data.extraction_manifest import CHECKSUMS, MANIFEST
from bench.data.pictures import Source, find_pictures, find_videos, read_frames
from bench.errors import UsageError
from bench.fingerprints import feature_digests
from bench.mini.pictures import scene_picture
from bench.mini.world import draw_scene


def make_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = Random(0)
    for index in range(count):
        scene_picture(draw_scene(rng), rng).save(folder / f"image{index:03}.jpg")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("pictures") / "in", 70)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of all pictures, extracted without interruption."""
    out = tmp_path_factory.mktemp("whole")
    report = extract(find_pictures(pictures), encoders.load("mini"), "grid", out, seconds=1.5)
    assert (report.written, report.kept, report.faults) == (70, 0, [])
    return out


def features(folder: Path) -> dict[str, bytes]:
    return {path.name: feature_files.read_grid(path).tobytes() for path in sorted(folder.glob("*.h5"))}


def test_features_are_those_of_the_encoder_for_each_picture_alone(pictures: Path, whole: Path) -> None:
    encoder = encoders.load("mini")
    for path in sorted(pictures.iterdir())[::17]:
        with torch.inference_mode(), Image.open(path) as picture:
            expected = encoder.network.grid(torch.from_numpy(encoder.preprocessing(picture.convert("RGB"))[None]))[0]
        np.testing.assert_allclose(feature_files.read_grid(whole / f"{path.stem}.h5"), expected.numpy(), atol=2e-3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_extraction_goes_on_and_gives_the_same(
    jobs: int, pictures: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, also where other pictures share the batch, and with processes that read ahead."""
    sources, encoder, written = find_pictures(pictures), encoders.load("mini"), []
    write = extraction._write

    def interrupt(*arguments: object) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        write(*arguments)
        written.append(arguments)

    monkeypatch.setattr(extraction, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(sources, encoder, "grid", tmp_path, seconds=1.5, jobs=jobs)
    monkeypatch.undo()
    (tmp_path / "image001.h5").unlink()
    report = extract(sources, encoder, "grid", tmp_path, seconds=1.5, jobs=jobs)
    assert (report.written, report.kept) == (66, 4)
    assert features(tmp_path) == features(whole)


def test_bad_pictures_are_listed_at_the_end_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_pictures(tmp_path / "in", 4)
    (folder / "image001.jpg").write_bytes((folder / "image001.jpg").read_bytes()[:200])
    (folder / "image002.jpg").write_text("no picture")
    words = ["--images", str(folder), "--encoder", "mini", "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert main(["data", "extract", *words]) == 1
    printed = capsys.readouterr()
    assert [line.split()[1] for line in printed.out.splitlines()[:2]] == [
        f"{folder}/image001.jpg:",
        f"{folder}/image002.jpg:",
    ]
    assert "2 written, 0 kept, 2 could not be read" in printed.out
    assert "4 of 4 pictures" in printed.err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.h5")) == ["image000.h5", "image003.h5"]


def test_features_of_one_folder_are_made_in_one_way(pictures: Path, whole: Path, tmp_path: Path) -> None:
    sources, encoder = find_pictures(pictures)[:2], encoders.load("mini")
    manifest = json.loads((whole / MANIFEST).read_text())
    assert manifest["encoder"] == "mini" and manifest["preprocessing"]["size"] == 96
    with pytest.raises(UsageError, match=r"extraction\.json: dtype is 'float16', now it would be 'float32'.*--out"):
        extract(sources, encoder, "grid", whole, seconds=1.5, dtype="float32")
    (tmp_path / "other.h5").write_bytes(b"")
    with pytest.raises(UsageError, match=r"has features, but no extraction\.json says how they were made"):
        extract(sources, encoder, "grid", tmp_path, seconds=1.5)
    assert not (tmp_path / CHECKSUMS).exists()


def test_two_pictures_of_one_name_are_one_clear_error(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_pictures(tmp_path / folder, 1)
    with pytest.raises(UsageError, match=r"b/image000\.jpg: has the name of .*a/image000\.jpg"):
        find_pictures(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures there"):
        find_pictures(tmp_path / "empty")


def write_video(path: Path, colours: list[tuple[int, int, int]], rate: int = 10) -> None:
    """A video that shows each colour for a second."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        for colour in colours:
            for _ in range(rate):
                picture = Image.new("RGB", (64, 48), colour)
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def test_frames_are_what_a_video_shows_at_each_time(tmp_path: Path) -> None:
    """At 0, 1.5, 3 and 4.5 s of a video that shows five colours for a second each."""
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 240), (10, 10, 10)]
    write_video(tmp_path / "clip.mp4", colours)
    shown = [np.asarray(frame).mean((0, 1)) for frame in read_frames(tmp_path / "clip.mp4", 1.5)]
    expected = [colours[0], colours[1], colours[3], colours[4]]
    np.testing.assert_allclose(np.stack(shown), np.array(expected), atol=25)


def test_videos_and_folders_of_frames_become_rows(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "a.mp4", [(200, 50, 50)] * 4)
    make_pictures(clips / "b", 5)
    (clips / "c.mp4").write_bytes(b"no video")
    report = extract(find_videos(clips), encoders.load("mini"), "frames", tmp_path / "out", seconds=1.5, batch_size=4)
    assert [feature_files.read_frames(tmp_path / "out" / f"{n}.npz").shape for n in "ab"] == [(3, 96), (5, 96)]
    assert report.written == 2
    assert "c.mp4: not a readable video" in report.faults[0]
    alone = extract(
        [Source("b", clips / "b")], encoders.load("mini"), "frames", tmp_path / "b", seconds=1.5, batch_size=4
    )
    assert alone.written == 1
    np.testing.assert_array_equal(*(feature_files.read_frames(tmp_path / out / "b.npz") for out in ("out", "b")))


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "--images DIR or with --videos DIR"),
        (["--images", "nowhere", "--videos", "x"], "--images DIR or with --videos DIR"),
        (["--images", "nowhere"], "--encoder NAME is missing"),
        (["--images", "nowhere", "--encoder", "mini"], "--out DIR is missing"),
        (["--images", "nowhere", "--encoder", "mini", "--out", "o"], "nowhere: no such folder"),
        (["somewhere", "--encoder", "mini"], "name the folder with --images or --videos, not as somewhere"),
    ],
)
def test_what_is_missing_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "extract", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_check_names_the_feature_file_that_is_not_what_was_extracted(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And runs on features that were extracted otherwise have other fingerprints."""
    root = tmp_path / "root"
    shutil.copytree(tiny_root, root)
    words = ["data", "check", str(root), "--suite", "image-text", "--n-boxes", "9", "--jobs", "1"]
    assert main(words) == 0
    assert "note   VG/clip_features/data_clip_RN101_att: extracted by mini (" in capsys.readouterr().out
    folder = root / "VG" / "clip_features" / "data_clip_RN101_att"
    before = feature_digests(root, "image-text")
    first = min(folder.glob("*.h5"))
    with h5py.File(first, "r+") as file:
        file[f"{first.stem}/features"][0, 0] += 1
    assert main(words) == 2
    assert f"{first}: has not the features that were extracted" in capsys.readouterr().out
    assert feature_digests(root, "image-text") == before  # sizes and names are what a run looks at
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"weights": "others"}))
    after = feature_digests(root, "image-text")
    assert [name for name in before if before[name] != after[name]] == [str(folder.relative_to(root))]
