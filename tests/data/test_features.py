"""Feature files: what is read, how frames are resized, and how a fault is told."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import suites
from bench.data.feature_files import read_frames, read_grid
from bench.data.features import FeatureStore, feat_dim, resize
from bench.errors import UsageError
from bench.tasks import Example


def grid(path: Path, values: np.ndarray, key: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key or f"{path.stem}/features", data=values)
    return path


def seeing(*files: str) -> Example:
    return Example("1", "", files)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_grid_is_read_as_float32(tmp_path: Path, kind: type) -> None:
    values = np.random.default_rng(0).normal(size=(49, 8)).astype(kind)
    read = read_grid(grid(tmp_path / "COCO_val2014_000000000001.h5", values))
    assert read.dtype == np.float32
    assert np.array_equal(read, values.astype(np.float32))


def test_a_pair_keeps_its_order(tmp_path: Path) -> None:
    for name, value in (("left", 1.0), ("right", 2.0)):
        grid(tmp_path / f"{name}.h5", np.full((4, 3), value, np.float16))
    read = FeatureStore(tmp_path, "grid").load(seeing("left.h5", "right.h5"))
    assert read.shape == (2, 4, 3)
    assert [part.max() for part in read] == [1.0, 2.0]


@settings(deadline=None)
@given(length=st.integers(1, 200), frames=st.integers(1, 80), seed=st.integers(0, 99))
def test_frames_are_padded_or_pooled_like_torch_does(length: int, frames: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(length, 3)).astype(np.float32)
    resized = resize(values, frames)
    assert resized.shape == (frames, 3)
    if length > frames:
        pooled = torch.nn.functional.adaptive_max_pool1d(torch.from_numpy(values.T)[None], frames)[0].T
        assert np.array_equal(resized, pooled.numpy())
    else:
        assert np.array_equal(resized[:length], values)
        assert not resized[length:].any()


def test_videos_are_resized_when_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", features=np.ones((40, 5), np.float16))
    read = FeatureStore(tmp_path, "frames", n_frames=64).load(seeing("clip.npz"))
    assert read.shape == (64, 5)
    assert read.dtype == np.float32
    assert read[:40].all()
    assert not read[40:].any()


def test_a_file_is_read_once_while_there_is_room(tmp_path: Path) -> None:
    names = [f"{i}.h5" for i in range(3)]
    for name in names:
        grid(tmp_path / name, np.ones((4, 4), np.float32))
    roomy, tight = FeatureStore(tmp_path, "grid"), FeatureStore(tmp_path, "grid", cache_bytes=2 * 64)
    for store in (roomy, tight):
        for name in names:
            store.load(seeing(name))
    for name in names:
        (tmp_path / name).unlink()
    assert [roomy.load(seeing(name)).shape for name in names] == [(4, 4)] * 3
    assert tight.load(seeing("2.h5")).shape == (4, 4)
    with pytest.raises(UsageError, match=r"0\.h5: no such feature file"):
        tight.load(seeing("0.h5"))


def test_a_file_larger_than_the_cache_is_read_all_the_same(tmp_path: Path) -> None:
    grid(tmp_path / "a.h5", np.ones((4, 4), np.float32))
    store = FeatureStore(tmp_path, "grid", cache_bytes=10)
    assert store.load(seeing("a.h5")).shape == store.load(seeing("a.h5")).shape == (4, 4)


def torn_npz(path: Path) -> None:
    np.savez(path, features=np.ones((40, 5)))
    path.write_bytes(path.read_bytes()[:200])


def bare_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones((4, 4)))


FAULTS = {
    "torn h5": ("a.h5", lambda p: p.write_bytes(b"\x89HDF"), "not a readable h5 file"),
    "other key": ("a.h5", lambda p: grid(p, np.ones((2, 2)), "b/features"), "no dataset 'a/features' .*there are: b"),
    "a group": ("a.h5", lambda p: grid(p, np.ones((2, 2)), "a/features/x"), "not a readable h5 file"),
    "three axes": ("a.h5", lambda p: grid(p, np.ones((1, 2, 2))), r"shape \(1, 2, 2\), expected floats"),
    "integers": ("a.h5", lambda p: grid(p, np.ones((2, 2), int)), "int64 .*expected floats"),
    "torn npz": ("a.npz", torn_npz, "not a readable npz file"),
    "text": ("a.npz", lambda p: p.write_text("404"), "not a readable npz file"),
    "empty": ("a.npz", lambda p: p.write_bytes(b""), "not a readable npz file"),
    "bare npy": ("a.npz", bare_array, "not a readable npz file"),
    "other array": ("a.npz", lambda p: np.savez(p, frames=np.ones((2, 2))), "no array 'features' .*there are: frames"),
    "missing h5": ("a.h5", lambda p: None, "no such feature file"),
    "missing npz": ("a.npz", lambda p: None, "no such feature file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    file, make, message = FAULTS[name]
    make(tmp_path / file)
    with pytest.raises(UsageError, match=message) as caught:
        (read_grid if file.endswith("h5") else read_frames)(tmp_path / file)
    assert str(caught.value).startswith(str(tmp_path / file))


def test_a_pair_of_uneven_grids_is_named(tmp_path: Path) -> None:
    grid(tmp_path / "left.h5", np.ones((49, 4)))
    grid(tmp_path / "right.h5", np.ones((36, 4)))
    with pytest.raises(UsageError, match=r"left\.h5 and right\.h5: .*\(49, 4\) and \(36, 4\)"):
        FeatureStore(tmp_path, "grid").load(seeing("left.h5", "right.h5"))


def test_the_width_of_a_suite_is_read_off_its_files(tiny_root: Path) -> None:
    for name in suites.names():
        suite = suites.get(name)
        example = suite.tasks[-1].read(tiny_root, "validation")[0]
        assert (
            feat_dim(tiny_root, suite.tasks[0]) == FeatureStore(tiny_root, suite.features.kind).load(example).shape[-1]
        )
