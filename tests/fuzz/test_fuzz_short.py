"""The short form of the fuzz harness; ``python -m tests.fuzz --seed N`` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_mutated_input_ends_with_a_traceback_in_silence_or_never(repo: Path) -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--short", "--seed", "1"]
    done = subprocess.run(words, cwd=repo, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
