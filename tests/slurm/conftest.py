"""One cluster for all tests that need a Slurm."""

from collections.abc import Iterator

import pytest
from dev_slurm import DevSlurm, why_not


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevSlurm]:
    """A real Slurm of four nodes (4 CPUs, 4 GB, 2 fake GPUs each). Whoever uses it leaves its nodes up: ``settle``."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    slurm = DevSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.control("up", "4")
        yield slurm
    finally:
        slurm.control("down")
