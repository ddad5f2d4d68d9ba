"""The verbs, and the command line."""

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
from dev_cluster.cluster import Cluster, Problem, present, search_path, written
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
    "up": "bring it up, or start what does not run; wait until it is ready and print the line of `env`",
    "down": "stop everything: jobs are killed, the queue is forgotten, logs stay",
    "status": "what runs; exit code 0 if all of it does",
    "env": "print the line of shell that points sbatch, squeue, ... at it",
    "kill-node": "a node loses power: its jobs die",
    "start-node": "a node comes back",
    "restart-controller": "stop slurmctld and start it again with its queue",
}


def install() -> None:
    """Install Debian's packages, and start none of their services."""
    if not missing():
        print("all there")
        return
    if shutil.which("apt-get") is None:
        raise Problem(f"no apt-get here; install what has these programs: {', '.join(missing())}")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:  # what keeps packages from starting services; many images of containers have one
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    try:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            if subprocess.run(["apt-get", "--quiet", *words], env=quiet, check=False).returncode:
                raise Problem(f"apt-get {words[0]} failed")
    finally:
        if ours:
            policy.unlink()
    if missing():
        raise Problem(f"installed, but still missing: {', '.join(missing())}")


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def up(folder: Path, count: int | None) -> None:
    """Bring a cluster up, or start what of it does not run, and wait until it is ready."""
    if missing():
        raise Problem(f"not installed: {', '.join(missing())}; `{sys.argv[0]} install` does it")
    began = time.monotonic()
    cluster = written(folder)
    if cluster and any(daemon_pid(cluster, daemon) for daemon in cluster.daemons):
        if count not in (None, cluster.count):
            raise Problem(f"{folder} has a cluster of {cluster.count} nodes running; take it `down` first")
        start(cluster)
    else:
        wanted = count if count is not None else cluster.count if cluster else 4
        files.check(folder, wanted)
        if cluster:
            down(cluster)  # jobs may have outlived their daemons
        with files.free_ports(folder, wanted + 2) as port:
            cluster = Cluster(str(folder), wanted, port)
            files.write(cluster)
            start(cluster)
    print(f"{cluster.count} nodes are up after {time.monotonic() - began:.1f} s; to use them:", file=sys.stderr)
    print(environment(cluster))


def start(cluster: Cluster) -> None:
    """Start what does not run."""
    start_munge(cluster)
    start_accounting(cluster)
    start_controller(cluster)
    start_nodes(cluster, cluster.nodes)


def down(cluster: Cluster) -> None:
    """Take everything down. Jobs that run are killed; logs and configuration are kept, queue and accounting are not."""
    stop(cluster, "slurmctld")
    cut_power(cluster, cluster.nodes)
    for daemon in ("slurmdbd", "mariadbd", "munged"):
        stop(cluster, daemon)
    for name in ("run", "munge", "spool", "state", "db", "dev"):
        shutil.rmtree(Path(cluster.folder, name), ignore_errors=True)


def status(cluster: Cluster) -> bool:
    """Print what runs; return whether all of it does."""
    pids = {daemon: daemon_pid(cluster, daemon) for daemon in cluster.daemons}
    states = node_states(cluster) if pids["slurmctld"] else {}
    for daemon, pid in pids.items():
        said = states.get(daemon.removeprefix("slurmd-"), "")
        print(f"{daemon:15} {f'pid {pid}' if pid else 'not running':15} {said}".rstrip())
    print(f"ports {cluster.port} to {cluster.port + 1 + cluster.count}, logs in {cluster.folder}/log")
    return all(pids.values())


def kill_node(cluster: Cluster, node: str) -> None:
    """Cut a node's power: all its processes die at once. The controller is told so, and need not find out in 25 s."""
    cut_power(cluster, [node])
    told = cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=kill-node")
    if told.returncode:
        raise Problem(f"{node} is dead, but the controller cannot be told: {told.stderr.strip()}")


def restart_controller(cluster: Cluster, kill: bool) -> None:
    """Stop the controller and start it again with the queue it has saved; ``kill`` gives it no time to save it."""
    stop(cluster, "slurmctld", signal.SIGKILL if kill else signal.SIGTERM)
    start_controller(cluster)


def environment(cluster: Cluster) -> str:
    """Return the line of shell that points Slurm's commands at this cluster."""
    return f"export SLURM_CONF={cluster.conf}"


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    place.add_argument("--dir", type=Path, help="the cluster's folder (.dev-cluster in the checkout)")
    top = argparse.ArgumentParser(
        prog="dev-cluster", description="A real Slurm on this machine. Needs root.", parents=[place]
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = {name: verbs.add_parser(name, help=text, description=text, parents=[place]) for name, text in VERBS.items()}
    verb["up"].add_argument("nodes", nargs="?", type=int, metavar="N", help="nodes of 4 CPUs, 4 GB, 2 fake GPUs (4)")
    verb["kill-node"].add_argument("node", metavar="NAME")
    verb["start-node"].add_argument("node", metavar="NAME")
    text = "kill -9, as in a crash: it loses up to 5 s of the queue"
    verb["restart-controller"].add_argument("--kill", action="store_true", help=text)
    return top


def main() -> int:
    """Do what the command line says; return 0, or 1 if it failed or not all of the cluster runs."""
    arguments = parser().parse_args()
    folder = getattr(arguments, "dir", CHECKOUT / ".dev-cluster").resolve()
    try:
        if arguments.verb == "env":
            print(environment(present(folder)))
            return 0
        if os.geteuid() != 0:
            raise Problem(f"{arguments.verb} needs root, as whom the daemons start jobs; use sudo or a container")
        if arguments.verb == "install":
            install()
            return 0
        if arguments.verb == "status":
            return 0 if status(present(folder)) else 1
        if arguments.verb != "up":
            present(folder)
        with alone(folder):
            change(folder, arguments)
    except Problem as problem:
        print(f"dev-cluster: {problem}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time change a folder's cluster."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise Problem(f"{folder}: {error.strerror}; choose another --dir") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def change(folder: Path, arguments: argparse.Namespace) -> None:
    """Do a verb that starts or stops something."""
    if arguments.verb == "up":
        up(folder, arguments.nodes)
        return
    cluster = present(folder)
    if arguments.verb == "down":
        down(cluster)
    elif arguments.verb == "restart-controller":
        restart_controller(cluster, arguments.kill)
    elif arguments.node not in cluster.nodes:
        raise Problem(f"no node {arguments.node!r}; there are {', '.join(cluster.nodes)}")
    elif arguments.verb == "kill-node":
        kill_node(cluster, arguments.node)
    else:
        start_nodes(cluster, [arguments.node])
