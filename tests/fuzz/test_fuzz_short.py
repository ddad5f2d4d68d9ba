"""The short form of the fuzz harness with a fresh seed; ``python -m tests.fuzz --seed N`` is the long one.

What it finds is a fault of today's code, if not of the last change: the output names each case with the command that
repeats it.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_mutated_input_ends_with_a_traceback_in_silence_or_never(repo: Path) -> None:
    seed = time.time_ns() % 1_000_000
    words = [sys.executable, "-m", "tests.fuzz", "--short", "--seed", str(seed)]
    done = subprocess.run(words, cwd=repo, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
