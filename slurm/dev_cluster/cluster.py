"""What a cluster is: a folder, its nodes, its first port."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class Problem(Exception):
    """Something that a person has to mend; the message says what, and which log says more."""


@dataclass(frozen=True)
class Cluster:
    """A cluster: its folder, how many nodes it has, and the first of its ports (then accounting, then the nodes)."""

    folder: str
    count: int
    port: int

    @property
    def conf(self) -> Path:
        """The file that SLURM_CONF names."""
        return Path(self.folder, "etc", "slurm.conf")

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return [f"node{number}" for number in range(1, self.count + 1)]

    @property
    def daemons(self) -> list[str]:
        """The names of all daemons, in the order in which they start."""
        return ["munged", "mariadbd", "slurmdbd", "slurmctld", *(f"slurmd-{node}" for node in self.nodes)]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the cluster's commands and daemons."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        mysql = f"{self.folder}/run/mysql.socket"
        return inherited | {"SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": mysql, "PATH": search_path()}

    def log(self, daemon: str) -> Path:
        """The log of a daemon."""
        return Path(self.folder, "log", f"{daemon}.log")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm on this cluster."""
        return subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False, timeout=120)


def search_path() -> str:
    """Return PATH with the folders of root's programs, which not everybody's has."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def written(folder: Path) -> Cluster | None:
    """Return the cluster that a folder holds, or None."""
    try:
        return Cluster(**json.loads((folder / "cluster.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def present(folder: Path) -> Cluster:
    """Return the cluster that a folder holds.

    Raises:
        Problem: there is none.
    """
    cluster = written(folder)
    if cluster is None:
        raise Problem(f"no cluster in {folder}; `{sys.argv[0]} --dir {folder} up 4` makes one")
    return cluster
