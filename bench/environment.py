"""The environment of a run: versions, source commit, host."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("vlpet-bench", "torch", "transformers", "numpy", "pycocoevalcap", "submitit", "peft")


def clean_text(text: str) -> str:
    """Return a text of the operating system with its undecodable bytes as question marks, so that it can be written."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


@lru_cache
def environment() -> dict[str, Any]:
    """Return the versions of Python and packages, host, platform, Slurm job id, and the git commit.

    ``git_dirty`` tells whether sources differ from the commit; both are None outside of a checkout.
    """
    versions = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": clean_text(platform.node()),
    }
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    status = _git("status", "--porcelain", "--", "bench", "methods")  # a new file there counts, a note elsewhere not
    return versions | {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "cpus": os.cpu_count(),
        "job_id": clean_text(job) if (job := os.environ.get("SLURM_JOB_ID")) else None,
    }


def code_version() -> dict[str, Any]:
    """Return the part of :func:`environment` that says which code computed something: package version and commit."""
    return {key: environment().get(key) for key in ("vlpet-bench", "git_commit", "git_dirty")}


def _git(*arguments: str) -> str | None:
    """Return git's answer about the checkout that this file is in; None where the package is installed elsewhere."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
