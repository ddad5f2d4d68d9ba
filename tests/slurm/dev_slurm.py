"""A cluster for tests: the commands of slurm/dev-cluster, and of Slurm on it."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEV_CLUSTER = ROOT / "slurm" / "dev-cluster"


def why_not() -> str | None:
    """Say why there can be no cluster here, or None if there can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if any(shutil.which(program, path=path) is None for program in ("slurmctld", "slurmdbd", "mariadbd")):
        return "Slurm is not installed; as root: slurm/dev-cluster install"
    return "only root can run a Slurm" if os.geteuid() != 0 else None


class DevSlurm:
    """A cluster in a folder.

    ``env`` is the environment in which sbatch, squeue, ... use it. Where Submitit is called in this process,
    ``monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])`` points it there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        self.env["SLURM_CONF"] = str(folder / "etc" / "slurm.conf")

    def control(self, *words: str) -> str:
        """Do a verb of slurm/dev-cluster, such as ``kill-node node1``, and return what it prints."""
        return self.run(str(DEV_CLUSTER), "--dir", str(self.folder), *words)

    def run(self, *words: str) -> str:
        """Run a command on the cluster and return what it prints; AssertionError if it fails."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str) -> str:
        """Submit a job of lines of shell, with standard output in ``folder/JOB.out``; return its id."""
        out = f"--output={self.folder}/%j.out"
        return self.run("sbatch", "--parsable", "--open-mode=append", out, *options, f"--wrap={script}").strip()

    def output(self, job: str) -> list[str]:
        """Return the lines that a job has written."""
        file = self.folder / f"{job}.out"
        return file.read_text().splitlines() if file.exists() else []

    def job_field(self, job: str, key: str) -> str:
        """Return a field of ``scontrol show job``, such as JobState, Restarts, NodeList, or "" if it is forgotten."""
        done = subprocess.run(["scontrol", "-o", "show", "job", job], env=self.env, capture_output=True, text=True)
        match = re.search(rf"(?<!\S){key}=(\S*)", done.stdout)
        return match[1] if match else ""

    def wait(self, job: str, state: str, seconds: float = 30) -> None:
        """Wait until a job is in a state, such as RUNNING or COMPLETED."""
        self.until(lambda: self.job_field(job, "JobState") == state, f"job {job} is {state}", seconds)

    def node(self, name: str) -> str:
        """Return a node's state: idle, mixed, allocated, down, ..."""
        return self.run("sinfo", "--noheader", "--partition=main", f"--nodes={name}", "--format=%T").strip()

    def settle(self) -> None:
        """Cancel every job and wait until all nodes are up and idle, as a test wants to find them."""
        self.run("scancel", "--user=root")
        self.control("up")
        self.until(lambda: set(self.run("sinfo", "--noheader", "--format=%T").split()) == {"idle"}, "idle")

    @staticmethod
    def until(true: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until something is true; AssertionError naming ``what`` if it is not after so many seconds."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)
