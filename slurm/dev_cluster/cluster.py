"""A cluster on this machine: its folder, its nodes and its first port."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class ClusterError(Exception):
    """A problem that a person has to solve; the message says which, and names the log that says more."""


@dataclass(frozen=True)
class Cluster:
    """A cluster.

    Attributes:
        folder: absolute path of the folder that holds everything of the cluster.
        count: number of nodes.
        port: the port of the controller; those of accounting and of the nodes follow.
    """

    folder: str
    count: int
    port: int

    @property
    def conf(self) -> Path:
        """The file that SLURM_CONF names."""
        return Path(self.folder, "etc", "slurm.conf")

    @property
    def nodes(self) -> list[str]:
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
        return Path(self.folder, "log", f"{daemon}.log")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm on this cluster and return its output and exit code."""
        return subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False, timeout=120)


def search_path() -> str:
    """Return PATH with the folders of root's programs, which the PATH of other users may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def load_cluster(folder: Path) -> Cluster | None:
    """Return the cluster that a folder holds, or None."""
    try:
        return Cluster(**json.loads((folder / "cluster.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def require_cluster(folder: Path) -> Cluster:
    """Return the cluster that a folder holds.

    Raises:
        ClusterError: there is none.
    """
    cluster = load_cluster(folder)
    if cluster is None:
        raise ClusterError(f"no cluster in {folder}; `{sys.argv[0]} --dir {folder} up 4` makes one")
    return cluster
