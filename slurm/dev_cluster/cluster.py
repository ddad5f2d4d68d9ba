"""A cluster: its folder, its nodes and its ports."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class ClusterError(Exception):
    """A fault that the user has to mend; the message says what is wrong and which log has details."""


@dataclass(frozen=True)
class Cluster:
    """A cluster.

    Attributes:
        folder: its folder.
        count: number of its nodes.
        port: port of the controller; those of accounting and of the nodes follow it.
    """

    folder: str
    count: int
    port: int

    @property
    def conf(self) -> Path:
        """The configuration file, to which SLURM_CONF has to point."""
        return Path(self.folder, "etc", "slurm.conf")

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes: node1, node2 and so on."""
        return [f"node{number}" for number in range(1, self.count + 1)]

    @property
    def daemons(self) -> list[str]:
        """The names of all daemons, in the order in which they are started."""
        return ["munged", "mariadbd", "slurmdbd", "slurmctld", *(f"slurmd-{node}" for node in self.nodes)]

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables for the cluster's commands and daemons, without those of another Slurm."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        mysql = f"{self.folder}/run/mysql.socket"
        return inherited | {"SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": mysql, "PATH": search_path()}

    def log(self, daemon: str) -> Path:
        """Return the path of a daemon's log."""
        return Path(self.folder, "log", f"{daemon}.log")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm on this cluster; it may fail, and has 120 seconds."""
        return subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False, timeout=120)


def search_path() -> str:
    """Return PATH with the folders of root's programs, which the PATH of other users often lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def read_cluster(folder: Path) -> Cluster | None:
    """Return the cluster in a folder, or None where there is none."""
    try:
        return Cluster(**json.loads((folder / "cluster.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def require_cluster(folder: Path) -> Cluster:
    """Return the cluster in a folder.

    Raises:
        ClusterError: there is none.
    """
    cluster = read_cluster(folder)
    if cluster is None:
        raise ClusterError(f"no cluster in {folder}; `{sys.argv[0]} --dir {folder} up 4` makes one")
    return cluster
