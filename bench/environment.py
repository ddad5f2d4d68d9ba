"""What a run ran on: versions, source commit, host."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("vlpet-bench", "torch", "transformers", "numpy", "pycocoevalcap", "submitit", "peft")


@lru_cache
def environment() -> dict[str, Any]:
    """Return versions, git commit and whether its sources were changed (null outside of a checkout), host, platform,
    job id."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "host": platform.node()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    status = _git("status", "--porcelain", "--", "bench", "methods")  # a new file there counts, a note elsewhere not
    return found | {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "cpus": os.cpu_count(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
    }


def _git(*words: str) -> str | None:
    """Ask git about the checkout that this file is in; None where it is installed elsewhere."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()
