"""What every test may ask for."""

import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("no deadline")

# Tiny models gain nothing from threads, and threads that wait for each other lose a lot on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test draws the same numbers in every run; TEST_SEED=1 draws others, to see whether a tolerance is luck."""
    import numpy as np  # not above: these read OMP_NUM_THREADS when they are imported
    import torch

    seed = zlib.crc32(f"{os.environ.get('TEST_SEED', '0')} {item.nodeid}".encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def repo() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and published samples beside a checkout; tests that need it skip without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared folder with reference outputs beside this checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root of all eight tasks in the official formats, with a handful of examples per split."""
    from tiny_world import TINY

    from bench.mini import write

    root = tmp_path_factory.mktemp("data") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "SIZES", TINY)
        root.mkdir()
        write.write(root, seed=5)
    yield root
