"""The short form of the fuzz harness with a fresh seed for every change; ``--seed N`` alone is the long one.

The seed comes from the code, so that the same code gets the same cases everywhere. The output names each case that it
finds with the command that repeats it.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_mutated_input_ends_with_a_traceback_in_silence_or_never(repo: Path) -> None:
    code = b"".join(path.read_bytes() for room in ("bench", "methods") for path in sorted((repo / room).rglob("*.py")))
    seed = int(hashlib.sha256(code).hexdigest(), 16) % 1_000_000
    words = [sys.executable, "-m", "tests.fuzz", "--short", "--seed", str(seed)]
    done = subprocess.run(words, cwd=repo, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
