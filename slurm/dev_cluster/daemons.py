"""The daemons, each on top of those before it."""

from collections.abc import Sequence
from pathlib import Path

from dev_cluster.cluster import Cluster, Problem
from dev_cluster.processes import start, until


def start_munge(cluster: Cluster) -> None:
    """Start the daemon that signs messages, with a key of its own."""
    place = f"{cluster.folder}/munge"
    options = {"key-file": f"{place}/key", "socket": f"{place}/socket", "seed-file": f"{place}/seed"}
    options |= {"pid-file": f"{cluster.folder}/run/munged.pid", "log-file": str(cluster.log("munged"))}
    # By force: it minds that somebody else than root owns a folder above.
    start(cluster, "munged", "munged", "--force", *(f"--{key}={value}" for key, value in options.items()))


def start_accounting(cluster: Cluster) -> None:
    """Start the database and the accounting daemon. Without them sacct, and so Submitit, knows nothing of a job."""
    data, log = Path(cluster.folder, "db"), cluster.log("mariadbd")
    common = ["--no-defaults", "--user=root", f"--datadir={data}"]
    if not any(data.iterdir()):
        # By force: it minds a host name that cannot be looked up.
        words = ["mariadb-install-db", *common, "--skip-test-db", "--force"]
        done = cluster.run(*words, "--auth-root-authentication-method=normal")
        if done.returncode:
            log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise Problem(f"mariadb-install-db failed; see {log}")
    listen = ["--skip-networking", f"--socket={cluster.environ['MYSQL_UNIX_PORT']}"]
    start(cluster, "mariadbd", "mariadbd", *common, *listen, f"--pid-file={cluster.folder}/run/mariadbd.pid")

    def known() -> bool:
        listed = cluster.run("sacctmgr", "--noheader", "show", "cluster", "format=cluster")
        return "dev" in listed.stdout or cluster.run("sacctmgr", "-iQ", "add", "cluster", "dev").returncode == 0

    start(cluster, "slurmdbd", "slurmdbd", ready=known)


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
    """Return the controller's word on each node: idle, mixed, allocated, down, ... ``*`` is added if it is silent."""
    listed = cluster.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
    return dict(line.split() for line in listed.stdout.splitlines())
