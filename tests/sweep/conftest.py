"""Fixtures of the tests of sweeps."""

from pathlib import Path

import pytest
from played_slurm import play_slurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of commands that stand for Slurm's (:func:`played_slurm.play_slurm`)."""
    return play_slurm(tmp_path / "bin", monkeypatch)
