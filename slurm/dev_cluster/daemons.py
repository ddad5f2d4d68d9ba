"""Starting the daemons of a cluster; each needs those before it."""

from collections.abc import Sequence
from pathlib import Path

from dev_cluster.cluster import Cluster, ClusterError
from dev_cluster.processes import start, wait_until


def start_munge(cluster: Cluster) -> None:
    """Start munge, which signs Slurm's messages, with a key of the cluster's own."""
    folder = f"{cluster.folder}/munge"
    options = {"key-file": f"{folder}/key", "socket": f"{folder}/socket", "seed-file": f"{folder}/seed"}
    options |= {"pid-file": f"{cluster.folder}/run/munged.pid", "log-file": str(cluster.log("munged"))}
    # Without --force it refuses to run where a parent folder does not belong to root.
    start(cluster, "munged", "munged", "--force", *(f"--{key}={value}" for key, value in options.items()))


def start_accounting(cluster: Cluster) -> None:
    """Start the database and the accounting daemon, without which sacct, and therefore Submitit, does not know jobs."""
    data, log = Path(cluster.folder, "db"), cluster.log("mariadbd")
    common = ["--no-defaults", "--user=root", f"--datadir={data}"]
    if not any(data.iterdir()):
        # Without --force it refuses to run where the host name cannot be resolved.
        words = ["mariadb-install-db", *common, "--skip-test-db", "--force"]
        completed = cluster.run(*words, "--auth-root-authentication-method=normal")
        if completed.returncode:
            log.write_text(completed.stdout + completed.stderr, encoding="utf-8")
            raise ClusterError(f"mariadb-install-db failed; see {log}")
    listen = ["--skip-networking", f"--socket={cluster.environ['MYSQL_UNIX_PORT']}"]
    start(cluster, "mariadbd", "mariadbd", *common, *listen, f"--pid-file={cluster.folder}/run/mariadbd.pid")

    def cluster_is_registered() -> bool:
        listed = cluster.run("sacctmgr", "--noheader", "show", "cluster", "format=cluster")
        return "dev" in listed.stdout or cluster.run("sacctmgr", "-iQ", "add", "cluster", "dev").returncode == 0

    start(cluster, "slurmdbd", "slurmdbd", ready=cluster_is_registered)


def start_controller(cluster: Cluster) -> None:
    """Start the controller; it continues with the queue that an earlier one has saved."""
    start(cluster, "slurmctld", "slurmctld", ready=lambda: "is UP" in cluster.run("scontrol", "ping").stdout)


def start_nodes(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Start node daemons and wait until the controller has accepted them.

    A node whose daemon runs and that is drained or down is brought back: Slurm drains nodes by itself whose jobs could
    not be launched or ended, as after the kill of a daemon or a step.
    """
    for node in nodes:
        start(cluster, f"slurmd-{node}", "slurmd", "-N", node)
    up_states = ("idle", "mixed", "allocated", "completing")

    def all_up() -> bool:
        states = node_states(cluster)
        unusable = [node for node in nodes if states.get(node, "").startswith(("drain", "down"))]
        if unusable:
            cluster.run("scontrol", "update", f"nodename={','.join(unusable)}", "state=resume")
        return all(states.get(node) in up_states for node in nodes)

    wait_until(all_up, f"not all of {', '.join(nodes)} are idle; see {cluster.log('slurmctld')}")


def node_states(cluster: Cluster) -> dict[str, str]:
    """Return the state of each node by the controller: idle, mixed, allocated, down, ...

    A ``*`` behind it means that the node does not answer.
    """
    listed = cluster.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
    return dict(line.split() for line in listed.stdout.splitlines())
