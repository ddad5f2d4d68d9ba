"""Claims: one process works on a run; the claims of dead ones are taken over."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.errors import UsageError
from bench.sweep.claims import claim, is_claimed, owner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "some-run" / "claim.json"


def held_by(path: Path, **who: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(owner() | who))


def test_one_at_a_time_and_given_back(path: Path) -> None:
    with claim(path) as mine:
        assert mine
        assert is_claimed(path)
        with claim(path) as second:
            assert not second
        assert is_claimed(path)
    assert not is_claimed(path)
    with claim(path) as again:
        assert again


def test_given_back_when_the_run_raises(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claim(path):
        raise KeyboardInterrupt
    assert not path.exists()
    assert [item.name for item in path.parent.iterdir()] == []


@pytest.mark.parametrize(
    "who",
    [
        {"host": "elsewhere", "pid": 2**22 - 1},
        {"pid": os.getppid(), "started": psutil.Process(os.getppid()).create_time()},
    ],
    ids=["another host", "a living process"],
)
def test_living_claims_are_respected(path: Path, who: dict[str, object]) -> None:
    held_by(path, **who)
    assert is_claimed(path)
    with claim(path) as mine:
        assert not mine
    assert path.exists()


def test_an_unreadable_claim_is_respected(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with claim(path) as mine:
        assert not mine


def test_the_claim_of_a_killed_process_is_taken_over(path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from bench.sweep.claims import claim
with claim(Path(sys.argv[1])) as mine:
    assert mine
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert json.loads(path.read_text())["host"] == platform.node()
    assert not is_claimed(path)
    with claim(path) as mine:
        assert mine


def test_a_process_id_that_came_again_does_not_hold_the_claim(path: Path) -> None:
    held_by(path, pid=os.getpid(), started=psutil.Process().create_time() - 1000)
    with claim(path) as mine:
        assert mine


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UsageError, match="--results"), claim(tmp_path / "runs" / "x" / "claim.json"):
        pass
