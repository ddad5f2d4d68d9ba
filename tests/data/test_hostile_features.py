"""Feature files that must not be read, and values that must not be trained on; nothing hangs, nothing is allocated."""

import fcntl
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.feature_files import MAX_BYTES, read
from bench.errors import UsageError

KEY = "a/features"
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def grid(path: Path, values: Any, **options: Any) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(KEY, data=values, **options)


def put(path: Path, make: Callable[[h5py.File], Any]) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        make(file)


def frames(path: Path, values: Any) -> None:
    np.savez(path, features=values)


def member(path: Path, header: str, content: bytes = b"\0" * 96) -> None:
    text = header.encode() + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("features.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "features", (4, 3))
    file.create_virtual_dataset(KEY, layout)


def half_written(file: h5py.File) -> None:
    file.create_dataset(KEY, (4, 3), "f4", chunks=(1, 3))[:2] = 1.0


def with_value(value: float, kind: str = "f8") -> np.ndarray:
    values = VALUES.astype(kind)
    values[2, 1] = value
    return values


def declared(shape: tuple[int, ...]) -> str:
    return f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"


STORED = "is stored in another file"
ANY = {
    "FIFO": (lambda path: os.mkfifo(path), "is a FIFO, expected a feature file"),
    "folder": (lambda path: path.mkdir(), "is a folder, expected a feature file"),
    "loop": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "link to nowhere": (lambda path: path.symlink_to("nowhere"), "no such feature file .it is a link that leads"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, expected a feature file"),
}
GRIDS = {
    "soft link": (lambda p: put(p, lambda f: f.__setitem__(KEY, h5py.SoftLink("/b"))), "is a link to something else"),
    "soft loop": (lambda p: put(p, lambda f: f.__setitem__(KEY, h5py.SoftLink(f"/{KEY}"))), "is a link to something"),
    "linked group": (lambda p: put(p, lambda f: f.__setitem__("a", h5py.SoftLink("/a"))), "is a link to something"),
    "external link": (
        lambda p: put(p, lambda f: f.__setitem__(KEY, h5py.ExternalLink("/etc/hostname", "/x"))), "is a link to somethi"
    ),
    "external storage": (
        lambda p: put(p, lambda f: f.create_dataset(KEY, (2, 2), "f2", external=[("/etc/passwd", 0, 8)])), STORED
    ),
    "virtual": (lambda p: put(p, virtual), STORED),
    "group": (lambda p: put(p, lambda f: f.create_group(KEY)), "is no dataset"),
    "type": (lambda p: put(p, lambda f: f.__setitem__(KEY, np.dtype("f4"))), "is no dataset"),
    "40 GB": (lambda p: put(p, lambda f: f.create_dataset(KEY, (10 << 30, 8), "f4", chunks=(1, 8))), "declares a sh"),
    "nothing written": (lambda p: put(p, lambda f: f.create_dataset(KEY, (4, 3), "f4")), "was not written"),
    "half written": (lambda p: put(p, half_written), "was not written"),
    "null": (lambda p: put(p, lambda f: f.__setitem__(KEY, h5py.Empty("f4"))), "shape None, expected floats"),
    "strings": (lambda p: put(p, lambda f: f.create_dataset(KEY, (3, 3), h5py.string_dtype())), "expected floats"),
    "ragged": (lambda p: put(p, lambda f: f.create_dataset(KEY, (9,), h5py.vlen_dtype("f4"))), "expected floats"),
    "compound": (lambda p: put(p, lambda f: f.create_dataset(KEY, (3, 3), [("x", "f4")])), "expected floats"),
}  # fmt: skip
ARCHIVES = {
    "20 GB": (lambda p: member(p, declared((20 << 20, 256))), "declares a shape"),
    "petabytes": (lambda p: member(p, declared((1 << 62, 1 << 62))), "declares a shape"),
    "negative": (lambda p: member(p, declared((-1, 512))), "has no values"),
    "more than there is": (lambda p: member(p, declared((9, 9))), "not a readable npz file"),
    "objects": (lambda p: member(p, "{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }"), "expected floats"),
    "code": (lambda p: member(p, "__import__('os').system('true')"), "not a readable npz file"),
    "parentheses": (lambda p: member(p, "(" * 3000), "not a readable npz file"),
    "no order": (lambda p: member(p, "{'descr': '<f4', 'shape': (2, 2), }"), "not a readable npz file"),
    "pickle": (lambda p: p.write_bytes(b"\x80\x04N."), "not a readable npz file"),
}
VALUE_FAULTS = {
    "NaN": (with_value(np.nan, "f2"), "has 1 of 12 values that are NaN or infinite"),
    "infinity": (with_value(-np.inf, "f4"), "has 1 of 12 values that are NaN or infinite"),
    "only NaN": (np.full((4, 3), np.nan), "has 12 of 12 values"),
    "1e300": (with_value(1e300), "NaN or infinite in float32"),
    "1e30": (with_value(1e30), r"values up to 1e\+30, expected at most 1e\+06"),
    "no rows": (VALUES[:0], r"has no values .its shape is \(0, 3\)"),
    "no columns": (VALUES[:, :0], r"has no values .its shape is \(4, 0\)"),
    "booleans": (VALUES > 0, "is bool of shape"),
    "complex": (VALUES.astype("c8"), "is complex64 of shape"),
    "scalar": (np.float32(1), r"shape \(\), expected floats"),
}
CASES = [
    *((kind, name, make, message) for kind in ("grid", "frames") for name, (make, message) in ANY.items()),
    *(("grid", name, make, message) for name, (make, message) in GRIDS.items()),
    *(("frames", name, make, message) for name, (make, message) in ARCHIVES.items()),
    *(
        (
            kind,
            name,
            lambda path, kind=kind, values=values: {"grid": grid, "frames": frames}[kind](path, values),
            message,
        )
        for kind in ("grid", "frames")
        for name, (values, message) in VALUE_FAULTS.items()
    ),
]


@pytest.mark.parametrize(("kind", "name", "make", "message"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_hostile_feature_file_is_an_error_that_names_it(
    kind: Any, name: str, make: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / ("a.h5" if kind == "grid" else "a.npz")
    make(path)
    with pytest.raises(UsageError, match=message) as caught:
        read(path, kind)
    assert str(caught.value).startswith(str(path))


def test_an_archive_that_unpacks_to_more_than_it_may_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("features.npy", "w") as file:
        for _ in range(MAX_BYTES // (1 << 20) + 1):
            file.write(bytes(1 << 20))
    with pytest.raises(UsageError, match=r"declares .* bytes in a file of"):
        read(path, "frames")


def test_a_locked_grid_names_the_variable_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    grid(path, VALUES)
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UsageError, match="HDF5_USE_FILE_LOCKING=FALSE"):
            read(path, "grid")
    finally:
        os.close(lock)


STORAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "float64": ("a.h5", lambda path: grid(path, VALUES.astype("f8"))),
    "big-endian": ("a.h5", lambda path: grid(path, VALUES.astype(">f4"))),
    "compressed": ("a.h5", lambda path: grid(path, VALUES, compression="gzip", chunks=(3, 2))),
    "linked": ("a.h5", lambda path: (grid(path.with_name("b"), VALUES), path.symlink_to("b"))[1]),
    "float16 frames": ("a.npz", lambda path: frames(path, VALUES.astype("f2"))),
    "big-endian frames": ("a.npz", lambda path: frames(path, VALUES.astype(">f8"))),
    "Fortran": ("a.npz", lambda path: frames(path, np.asfortranarray(VALUES))),
    "compressed frames": ("a.npz", lambda path: np.savez_compressed(path, other=np.ones(2), features=VALUES)),
}


@pytest.mark.parametrize("name", STORAGES)
def test_the_same_values_may_be_stored_in_many_ways(name: str, tmp_path: Path) -> None:
    file, make = STORAGES[name]
    make(tmp_path / file)
    features = read(tmp_path / file, "grid" if file == "a.h5" else "frames")
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert np.array_equal(features, VALUES)


def whole(name: str) -> bytes:
    buffer = io.BytesIO()
    if name == "grid":
        with h5py.File(buffer, "w") as file:
            file[KEY] = VALUES
    else:
        np.savez(buffer, features=VALUES)
    return buffer.getvalue()


WHOLE = {name: whole(name) for name in ("grid", "frames")}


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["grid", "frames"]), noise=st.binary(min_size=1, max_size=40))
def test_damage_anywhere_is_an_error_or_gives_finite_values(
    data: st.DataObject, kind: Any, noise: bytes, tmp_path: Path
) -> None:
    content = WHOLE[kind]
    begin = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:begin] + (noise + content[begin + len(noise) :] if data.draw(st.booleans()) else b"")
    path = tmp_path / ("a.h5" if kind == "grid" else "a.npz")
    path.write_bytes(damaged)
    try:
        features = read(path, kind)
    except UsageError as fault:
        assert str(fault).startswith(str(path))
    else:
        assert features.ndim == 2
        assert np.isfinite(features).all()
