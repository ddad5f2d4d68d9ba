"""Starting the daemons of a cluster, each of which needs those before it."""

from collections.abc import Sequence
from pathlib import Path

from dev_cluster.cluster import Cluster, ClusterError
from dev_cluster.processes import start, until


def start_munge(cluster: Cluster) -> None:
    """Start the daemon that signs messages, with a key of its own."""
    place = f"{cluster.folder}/munge"
    options = {"key-file": f"{place}/key", "socket": f"{place}/socket", "seed-file": f"{place}/seed"}
    options |= {"pid-file": f"{cluster.folder}/run/munged.pid", "log-file": str(cluster.log("munged"))}
    # By force: it objects if somebody other than root owns a parent folder.
    start(cluster, "munged", "munged", "--force", *(f"--{key}={value}" for key, value in options.items()))


def start_accounting(cluster: Cluster) -> None:
    """Start the database and the accounting daemon. sacct knows nothing of a job without them."""
    data, log = Path(cluster.folder, "db"), cluster.log("mariadbd")
    common = ["--no-defaults", "--user=root", f"--datadir={data}"]
    if not any(data.iterdir()):
        # By force: it objects to a host name that cannot be resolved.
        words = ["mariadb-install-db", *common, "--skip-test-db", "--force"]
        done = cluster.run(*words, "--auth-root-authentication-method=normal")
        if done.returncode:
            log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise ClusterError(f"mariadb-install-db failed; see {log}")
    listen = ["--skip-networking", f"--socket={cluster.environ['MYSQL_UNIX_PORT']}"]
    start(cluster, "mariadbd", "mariadbd", *common, *listen, f"--pid-file={cluster.folder}/run/mariadbd.pid")

    def is_registered() -> bool:
        listed = cluster.run("sacctmgr", "--noheader", "show", "cluster", "format=cluster")
        return "dev" in listed.stdout or cluster.run("sacctmgr", "-iQ", "add", "cluster", "dev").returncode == 0

    start(cluster, "slurmdbd", "slurmdbd", ready=is_registered)


def start_controller(cluster: Cluster) -> None:
    """Start the controller, with the queue that an earlier one has saved."""
    start(cluster, "slurmctld", "slurmctld", ready=lambda: "is UP" in cluster.run("scontrol", "ping").stdout)


def start_nodes(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Start nodes and wait until the controller has them."""
    for node in nodes:
        start(cluster, f"slurmd-{node}", "slurmd", "-N", node)
    fine = ("idle", "mixed", "allocated", "completing")

    def up() -> bool:
        states = node_states(cluster)
        return all(states.get(node) in fine for node in nodes)

    until(up, f"not all of {', '.join(nodes)} are idle; see {cluster.log('slurmctld')}")


def node_states(cluster: Cluster) -> dict[str, str]:
    """Return the state of each node (idle, mixed, allocated, down, ...), with ``*`` if the node does not answer."""
    listed = cluster.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
    return dict(line.split() for line in listed.stdout.splitlines())
