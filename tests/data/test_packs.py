"""Packed features: the same batches, whatever is damaged is noticed, and an interrupted pack is gone on with."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from bench import run_data, suites
from bench.cli import main
from bench.config import resolve
from bench.data import packing, packs
from bench.data.features import FeatureStore
from bench.data.packing import pack_folder
from bench.data.packs import FeaturePack, PackFault, find_pack
from bench.data.roots import feature_folders
from bench.errors import UsageError
from bench.fingerprints import feature_digests
from bench.suites import Features
from bench.tasks import Example

GRID = Features("grid", 3)
VALUES = {f"i{n}": np.random.default_rng(n).normal(size=(4, 3)).astype(np.float32) for n in range(6)}


def write(folder: Path, name: str, values: np.ndarray) -> None:
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file[f"{name}/features"] = values


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with one feature folder, of whose six files two make a shard."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, values in VALUES.items():
        write(folder, name, values)
    monkeypatch.setattr(packing, "SHARD_BYTES", 2 * (folder / "i0.h5").stat().st_size)
    return folder


def load(folder: Path, name: str) -> np.ndarray:
    return FeatureStore(folder.parent, "grid").load(Example("1", "", (f"images/{name}.h5",)))


@pytest.mark.parametrize("suite", ["image-text", "video-text"])
def test_batches_and_fingerprints_are_those_of_the_files(
    suite: str, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, packed = tiny_root, tmp_path / "packed-root"
    shutil.copytree(plain, packed)
    assert main(["data", "pack", str(packed), "--suite", suite, "--jobs", "1"]) == 0
    assert feature_digests(packed, suite) == feature_digests(plain, suite)
    for folder in feature_folders(packed, suites.get(suite)):
        for path in folder.glob(f"*{suites.get(suite).features.suffix}"):
            path.unlink()
    assert feature_digests(packed, suite) == feature_digests(plain, suite)
    run = resolve(
        method="lora", backbone="mini-bart", suite=suite, recipe="mini", settings={"n_frames": 5, "limit": 12}
    )
    for task in run.task_list:
        for split in ("train", task.report_split):
            ours, theirs = (run_data.read_split(run, task, split, root) for root in (packed, plain))
            one, other = (data.batch(1, 0, 7, seed=3) for data in (ours, theirs))
            assert one.ids == other.ids
            for name in ("input_ids", "labels", "vis_feats", "weights"):
                assert torch.equal(getattr(one, name), getattr(other, name))
    capsys.readouterr()
    assert main(["data", "check", str(packed), "--suite", suite, "--features", "sample"]) == 0
    assert capsys.readouterr().out.count(": packed, ") == len(feature_folders(packed, suites.get(suite)))


@property_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_byte_or_end_is_noticed_or_harmless(folder: Path, data: st.DataObject) -> None:
    target = folder / packs.FOLDER
    if not target.exists():
        pack_folder(folder, GRID, "float32", 1)
    path = data.draw(st.sampled_from(sorted(target.iterdir())))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:at]
    if data.draw(st.booleans()):
        damaged += bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    try:
        path.write_bytes(damaged)
        try:
            pack = FeaturePack(folder)
            assert {name: pack.read(f"{name}.h5").tolist() for name in VALUES} == {
                name: values.tolist() for name, values in VALUES.items()
            }
        except PackFault as fault:
            assert str(target) in str(fault) and "data pack" in str(fault)
    finally:
        path.write_bytes(content)


def test_an_interrupted_pack_is_not_read_and_is_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard, calls = packing.write_shard, []

    def stopped(*arguments: object) -> str:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write_shard(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        pack_folder(folder, GRID, "float32", 1)
    assert find_pack(folder) is None and packs.is_interrupted(folder)
    np.testing.assert_array_equal(load(folder, "i5"), VALUES["i5"])
    (folder / packs.DRAFT / "00001.safetensors").write_bytes(b"torn")
    report = pack_folder(folder, GRID, "float32", 1)
    assert (report.files, report.written, report.kept) == (6, 2, 1)
    assert not packs.is_interrupted(folder)
    assert pack_folder(folder, GRID, "float32", 1).written == 0


def test_several_processes_write_the_same_pack(folder: Path) -> None:
    assert pack_folder(folder, GRID, "float32", 2).written == 3
    assert pack_folder(folder, GRID, "float32", 1).written == 0
    for name, values in VALUES.items():
        np.testing.assert_array_equal(load(folder, name), values)


def test_a_source_that_changed_is_named_until_it_is_packed_again(folder: Path) -> None:
    pack_folder(folder, GRID, "float32", 1)
    write(folder, "i3", VALUES["i3"] + 1)
    os.utime(folder / "i3.h5", ns=(0, 5))
    with pytest.raises(UsageError, match=r"i3\.h5: has changed since it was packed; run `python -m bench data pack`"):
        load(folder, "i0")
    report = pack_folder(folder, GRID, "float32", 1)
    assert (report.written, report.kept) == (1, 2)
    np.testing.assert_array_equal(load(folder, "i3"), VALUES["i3"] + 1)


def test_a_file_that_was_added_is_read_beside_the_pack(folder: Path) -> None:
    pack_folder(folder, GRID, "float32", 1)
    write(folder, "new", VALUES["i0"] * 2)
    np.testing.assert_array_equal(load(folder, "new"), VALUES["i0"] * 2)
    (folder / "i0.h5").unlink()
    with pytest.raises(UsageError, match=r"new\.h5: is not in the pack, other files of which are gone"):
        pack_folder(folder, GRID, "float32", 1)


def test_rounded_values_are_other_data(folder: Path) -> None:
    before = feature_digests(folder.parent, "image-text")
    assert not pack_folder(folder, GRID, "float16", 1).is_exact
    assert feature_digests(folder.parent, "image-text") != before
    np.testing.assert_array_equal(load(folder, "i1"), VALUES["i1"].astype(np.float16).astype(np.float32))
    for name, values in VALUES.items():
        write(folder, name, np.round(values))
    assert pack_folder(folder, GRID, "float16", 1).is_exact
    assert feature_digests(folder.parent, "image-text") == before


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        (np.full((4, 3), np.nan), "float32", "NaN"),
        (np.ones((4, 5)), "float32", "columns"),
        (np.full((4, 3), 1e5), "float16", "too large for float16"),
    ],
)
def test_a_faulty_source_is_named_and_nothing_is_packed(
    folder: Path, values: np.ndarray, dtype: str, words: str
) -> None:
    write(folder, "i5", values)
    with pytest.raises(UsageError, match=words) as fault:
        pack_folder(folder, GRID, dtype, 1)
    assert str(folder) in str(fault.value)
    assert find_pack(folder) is None
