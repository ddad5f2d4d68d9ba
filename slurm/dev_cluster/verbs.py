"""The verbs of slurm/dev-cluster, and its command line."""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev_cluster import files
from dev_cluster.cluster import Cluster, ClusterError, read_cluster, require_cluster, search_path
from dev_cluster.daemons import node_states, start_accounting, start_controller, start_munge, start_nodes
from dev_cluster.processes import cut_power, daemon_pid, stop

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("munge", "slurmctld", "slurmd", "slurm-client"),
    *("slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server-core", "mariadb-client-core"),
)
PROGRAMS = ("munged", "mariadb-install-db", "mariadbd", "slurmdbd", "sacctmgr", "slurmctld", "slurmd", "sbatch", "srun")
VERBS = {
    "install": "install Debian's packages; starts nothing",
    "up": "bring it up, or start what does not run and undrain nodes; wait until ready and print the line of `env`",
    "down": "stop everything: jobs are killed, the queue is forgotten, logs stay",
    "status": "what runs; exit code 0 if all of it does",
    "env": "print the line of shell that points sbatch, squeue, ... at it",
    "kill-node": "a node loses power: its jobs die",
    "start-node": "a node comes back",
    "restart-controller": "stop slurmctld and start it again with its queue",
}


def install() -> None:
    """Install Debian's packages without starting any of their services."""
    if not missing_programs():
        print("all there")
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"no apt-get here; install what has these programs: {', '.join(missing_programs())}")
    policy = Path("/usr/sbin/policy-rc.d")
    temporary = not policy.exists()
    if temporary:  # this file keeps packages from starting services; many container images have one
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    try:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            if subprocess.run(["apt-get", "--quiet", *words], env=quiet, check=False).returncode:
                raise ClusterError(f"apt-get {words[0]} failed")
    finally:
        if temporary:
            policy.unlink()
    if missing_programs():
        raise ClusterError(f"installed, but still missing: {', '.join(missing_programs())}")


def missing_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def up(folder: Path, count: int | None) -> None:
    """Make a cluster of ``count`` nodes, or start those of its daemons that do not run, and wait until it is ready.

    ``count`` is None for the number of nodes of the existing cluster, or 4.

    Raises:
        ClusterError: programs are missing, the folder cannot be used, or a daemon does not start.
    """
    if missing_programs():
        raise ClusterError(f"not installed: {', '.join(missing_programs())}; `{sys.argv[0]} install` does it")
    began = time.monotonic()
    cluster = read_cluster(folder)
    if cluster and any(daemon_pid(cluster, daemon) for daemon in cluster.daemons):
        if count not in (None, cluster.count):
            raise ClusterError(f"{folder} has a cluster of {cluster.count} nodes running; take it `down` first")
        start(cluster)
    else:
        nodes = count if count is not None else cluster.count if cluster else 4
        files.check_folder(folder, nodes)
        if cluster:
            down(cluster)  # jobs may have outlived their daemons
        with files.free_ports(folder, nodes + 2) as port:
            cluster = Cluster(str(folder), nodes, port)
            files.write_files(cluster)
            start(cluster)
    print(f"{cluster.count} nodes are up after {time.monotonic() - began:.1f} s; to use them:", file=sys.stderr)
    print(environment(cluster))


def start(cluster: Cluster) -> None:
    """Start those daemons of a cluster that do not run."""
    start_munge(cluster)
    start_accounting(cluster)
    start_controller(cluster)
    start_nodes(cluster, cluster.nodes)


def down(cluster: Cluster) -> None:
    """Stop everything. Running jobs are killed; logs and configuration are kept, queue and accounting are not."""
    stop(cluster, "slurmctld")
    cut_power(cluster, cluster.nodes)
    for daemon in ("slurmdbd", "mariadbd", "munged"):
        stop(cluster, daemon)
    for name in ("run", "munge", "spool", "state", "db", "dev"):
        shutil.rmtree(Path(cluster.folder, name), ignore_errors=True)


def status(cluster: Cluster) -> bool:
    """Print the state of all daemons; return whether all of them run."""
    pids = {daemon: daemon_pid(cluster, daemon) for daemon in cluster.daemons}
    states = node_states(cluster) if pids["slurmctld"] else {}
    for daemon, pid in pids.items():
        node_state = states.get(daemon.removeprefix("slurmd-"), "")
        print(f"{daemon:15} {f'pid {pid}' if pid else 'not running':15} {node_state}".rstrip())
    print(f"ports {cluster.port} to {cluster.port + 1 + cluster.count}, logs in {cluster.folder}/log")
    return all(pids.values())


def kill_node(cluster: Cluster, node: str) -> None:
    """Kill all processes of a node at once, as when its power fails.

    The controller is informed, because it would take 25 s to notice.
    """
    cut_power(cluster, [node])
    update = cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=kill-node")
    if update.returncode:
        raise ClusterError(f"{node} is dead, but the controller cannot be told: {update.stderr.strip()}")


def restart_controller(cluster: Cluster, kill: bool) -> None:
    """Stop the controller and start it again with the queue that it has saved; with ``kill`` it cannot save it."""
    stop(cluster, "slurmctld", signal.SIGKILL if kill else signal.SIGTERM)
    start_controller(cluster)


def environment(cluster: Cluster) -> str:
    """Return the line of shell that points Slurm's commands at this cluster."""
    return f"export SLURM_CONF={cluster.conf}"


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line; ``--dir`` may stand before or after the verb."""
    folder_option = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    folder_option.add_argument("--dir", type=Path, help="the cluster's folder (.dev-cluster in the checkout)")
    top = argparse.ArgumentParser(
        prog="dev-cluster", description="A real Slurm on this machine. Needs root.", parents=[folder_option]
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = {
        name: verbs.add_parser(name, help=text, description=text, parents=[folder_option])
        for name, text in VERBS.items()
    }
    verb["up"].add_argument("nodes", nargs="?", type=int, metavar="N", help="nodes of 4 CPUs, 4 GB, 2 fake GPUs (4)")
    verb["kill-node"].add_argument("node", metavar="NAME")
    verb["start-node"].add_argument("node", metavar="NAME")
    text = "kill -9, as in a crash: it loses up to 5 s of the queue"
    verb["restart-controller"].add_argument("--kill", action="store_true", help=text)
    return top


def main() -> int:
    """Run the command line; return 0, or 1 if the verb failed or, for ``status``, if not all of the cluster runs."""
    arguments = parser().parse_args()
    folder = getattr(arguments, "dir", CHECKOUT / ".dev-cluster").resolve()
    try:
        if arguments.verb == "env":
            print(environment(require_cluster(folder)))
            return 0
        if os.geteuid() != 0:
            raise ClusterError(f"{arguments.verb} needs root, as whom the daemons start jobs; use sudo or a container")
        if arguments.verb == "install":
            install()
            return 0
        if arguments.verb == "status":
            return 0 if status(require_cluster(folder)) else 1
        if arguments.verb != "up":
            require_cluster(folder)
        with exclusive(folder):
            apply(folder, arguments)
    except ClusterError as problem:
        print(f"dev-cluster: {problem}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that one process at a time changes its cluster."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise ClusterError(f"{folder}: {error.strerror}; choose another --dir") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def apply(folder: Path, arguments: argparse.Namespace) -> None:
    """Carry out a verb that starts or stops something."""
    if arguments.verb == "up":
        up(folder, arguments.nodes)
        return
    cluster = require_cluster(folder)
    if arguments.verb == "down":
        down(cluster)
    elif arguments.verb == "restart-controller":
        restart_controller(cluster, arguments.kill)
    elif arguments.node not in cluster.nodes:
        raise ClusterError(f"no node {arguments.node!r}; there are {', '.join(cluster.nodes)}")
    elif arguments.verb == "kill-node":
        kill_node(cluster, arguments.node)
    else:
        start_nodes(cluster, [arguments.node])
