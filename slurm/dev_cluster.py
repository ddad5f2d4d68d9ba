"""A real Slurm on one machine: controller, virtual nodes with fake GPUs, accounting. For tests and try-outs.

Everything is in one folder: configuration, keys, sockets, spool, database, logs. Nothing of the system's own Slurm is
read or written, ports and sockets are the cluster's own, so several clusters can stand side by side, each in a folder.
Only root can run it, and only Debian's packages of Slurm 22.05 were tried. Standard library only.
"""

import argparse
import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("munge", "slurmctld", "slurmd", "slurm-client"),
    *("slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server-core", "mariadb-client-core"),
)
PROGRAMS = ("munged", "mariadb-install-db", "mariadbd", "slurmdbd", "sacctmgr", "slurmctld", "slurmd", "sbatch", "srun")
MOST_NODES = 64
LONGEST_FOLDER = 67  # characters; a socket has at most 107, and folder/spool/node64/node64_JOB.STEP is one
PATIENCE = 30.0  # seconds a daemon may take to answer, which it does in one or two on an idle machine
WIPED = ("etc", "run", "munge", "spool", "state", "db", "dev", "log")

SLURM = """\
# Written by slurm/dev-cluster; the next `up` writes it again.
ClusterName=dev
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
{listen}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired: 120 s, if nothing is said.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
# No cgroups, which a container may lack: CPUs and memory are only counted.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmdLogFile={folder}/log/slurmd-%n.log
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=2
KillWait=5
SlurmdTimeout=10
ReturnToService=2
JobRequeue=1
MpiDefault=none
MailProg=/bin/true
# Submitit's files are named by job ids: an id that came again would bring back old results.
FirstJobId={first_job}
MaxArraySize=10001
MaxJobCount=20000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting_port}
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF DefMemPerCPU=1000 DefaultTime=60
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 DefMemPerCPU=1000 DefaultTime=60
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000 Gres=gpu:2"
# A GPU must be a device: a link to one will do.
GRES = """\
AutoDetect=off
NodeName=node[1-{count}] Name=gpu File={folder}/dev/gpu[0-1]
"""
SLURMDBD = """\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounting_port}
{listen}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


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
    def environ(self) -> dict[str, str]:
        """The environment of the cluster's commands and daemons."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        # Debian's programs of root are in sbin, which not every PATH has.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
        mysql = f"{self.folder}/run/mysql.socket"
        return inherited | {"SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": mysql, "PATH": path}

    def log(self, daemon: str) -> Path:
        """The log of a daemon."""
        return Path(self.folder, "log", f"{daemon}.log")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm on this cluster."""
        return subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False, timeout=60)


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


# Processes. A pid alone is no proof: it comes again. Nor is a dead process that its parent has not fetched alive.


def about(pid: int) -> tuple[str, int] | None:
    """Return a living process's name and parent, or None."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    state, parent = tail.split()[:2]
    return None if state in "ZX" else (head.partition("(")[2], int(parent))


def daemon_pid(cluster: Cluster, daemon: str) -> int | None:
    """Return the pid of a daemon of this cluster, by its pid file, or None if it does not run."""
    try:
        pid = int(Path(cluster.folder, "run", f"{daemon}.pid").read_text(encoding="utf-8"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, ValueError):
        return None
    found = about(pid)
    ours = found is not None and found[0] == daemon.partition("-")[0] and f"{cluster.folder}/".encode() in words
    return pid if ours else None


def node_pids(cluster: Cluster, nodes: Sequence[str]) -> set[int]:
    """Return the pids of nodes: node daemons, step daemons, jobs and what these have started."""
    processes = {int(name): known for name in os.listdir("/proc") if name.isdigit() and (known := about(int(name)))}
    conf = f"SLURM_CONF={cluster.conf}".encode()
    marks = {f"SLURMD_NODENAME={node}".encode() for node in nodes}
    logs = {str(cluster.log(f"slurmd-{node}")) for node in nodes}
    found = {pid for node in nodes if (pid := daemon_pid(cluster, f"slurmd-{node}"))}
    for pid, (name, _) in processes.items():
        with suppress(OSError):
            if name.startswith("slurmstepd"):  # it has no environment, but its node's log open
                found |= {pid} if any(os.readlink(fd) in logs for fd in Path(f"/proc/{pid}/fd").iterdir()) else set()
            else:
                variables = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
                found |= {pid} if conf in variables and variables & marks else set()
    while more := {pid for pid, (_, parent) in processes.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def cut_power(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Kill all of some nodes' processes. They are stopped first, so that none can tell of another's death."""
    stopped: set[int] = set()
    while fresh := node_pids(cluster, nodes) - stopped:
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        send(pid, signal.SIGKILL)
    until(lambda: not any(map(about, stopped)), "processes that do not die", f"pids {sorted(stopped)}")


def send(pid: int, number: int) -> None:
    """Signal a process that may have gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stop(cluster: Cluster, daemon: str, number: int = signal.SIGTERM) -> None:
    """Stop a daemon, by force if it does not go within 10 s."""
    deadline = time.monotonic() + 10
    while pid := daemon_pid(cluster, daemon):
        send(pid, number if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.05)


def until(true: Callable[[], bool], fault: str, more: object) -> None:
    """Wait until something is true; ``fault`` and ``more`` (a log) say what is wrong if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise Problem(f"{fault} after {PATIENCE:.0f} s; see {more}")
        time.sleep(0.05)


def start(cluster: Cluster, daemon: str, *words: str) -> None:
    """Start a daemon that does not run yet and puts itself into the background."""
    if daemon_pid(cluster, daemon):
        return
    log = cluster.log(daemon)
    with log.open("a", encoding="utf-8") as out:
        done = subprocess.run(
            words, env=cluster.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, cwd="/"
        )
    if done.returncode:
        last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][-1:]
        raise Problem(f"{daemon} did not start ({': '.join([f'exit code {done.returncode}', *last])}); see {log}")
    until(lambda: daemon_pid(cluster, daemon) is not None, f"{daemon} does not run", log)


# The daemons, each on top of those before it.


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
    if daemon_pid(cluster, "mariadbd") is None:
        words = ["mariadbd", *common, "--skip-networking", f"--pid-file={cluster.folder}/run/mariadbd.pid"]
        words += [f"--socket={cluster.environ['MYSQL_UNIX_PORT']}"]
        with log.open("a", encoding="utf-8") as out:
            subprocess.Popen(
                words, env=cluster.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        until(lambda: daemon_pid(cluster, "mariadbd") is not None, "mariadbd does not run", log)
    start(cluster, "slurmdbd", "slurmdbd")
    known = cluster.run("sacctmgr", "-n", "show", "cluster")
    if "dev" not in known.stdout:
        add = ("sacctmgr", "-iQ", "add", "cluster", "dev")
        until(lambda: cluster.run(*add).returncode == 0, "slurmdbd does not answer", cluster.log("slurmdbd"))


def start_controller(cluster: Cluster) -> None:
    """Start the controller, with the queue that an earlier one has saved, and wait until it answers."""
    start(cluster, "slurmctld", "slurmctld")
    answers = ("scontrol", "ping")
    until(lambda: "is UP" in cluster.run(*answers).stdout, "slurmctld does not answer", cluster.log("slurmctld"))


def start_nodes(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Start nodes and wait until the controller has them."""
    for node in nodes:
        start(cluster, f"slurmd-{node}", "slurmd", "-N", node)
    fine = ("idle", "mixed", "allocated", "completing")

    def up() -> bool:
        states = node_states(cluster)
        return all(states.get(node) in fine for node in nodes)

    until(up, f"not all of {', '.join(nodes)} are idle", f"{cluster.folder}/log/slurm*.log")


def node_states(cluster: Cluster) -> dict[str, str]:
    """Return the controller's word on each node: idle, mixed, allocated, down, ... ``*`` is added if it is silent."""
    listed = cluster.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
    return dict(line.split() for line in listed.stdout.splitlines())


def daemons(cluster: Cluster) -> list[str]:
    """Return the names of all daemons, in the order in which they start."""
    return ["munged", "mariadbd", "slurmdbd", "slurmctld", *(f"slurmd-{node}" for node in cluster.nodes)]


# The verbs.


def install() -> None:
    """Install Debian's packages, and start none of their services."""
    if not missing():
        print("all there")
        return
    if shutil.which("apt-get") is None:
        raise Problem(f"no apt-get here; install what has these programs: {', '.join(missing())}")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:  # what keeps packages from starting services; some images have one
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
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def up(folder: Path, count: int | None) -> None:
    """Bring a cluster up, or start what of it does not run."""
    if missing():
        raise Problem(f"not installed: {', '.join(missing())}; `{sys.argv[0]} install` does it")
    began = time.monotonic()
    cluster = written(folder)
    if cluster is None or not any(daemon_pid(cluster, daemon) for daemon in daemons(cluster)):
        cluster = prepared(folder, count if count is not None else cluster.count if cluster else 4)
    elif count not in (None, cluster.count):
        raise Problem(f"{folder} has a cluster of {cluster.count} nodes running; take it `down` first")
    start_munge(cluster)
    start_accounting(cluster)
    start_controller(cluster)
    start_nodes(cluster, cluster.nodes)
    print(f"{cluster.count} nodes are up after {time.monotonic() - began:.1f} s; to use them:", file=sys.stderr)
    print(environment(cluster))


def prepared(folder: Path, count: int) -> Cluster:
    """Make the folder of a new cluster: configuration, key, fake GPUs. Nothing of an earlier one is kept."""
    if not 1 <= count <= MOST_NODES:
        raise Problem(f"{count} nodes; expected 1 to {MOST_NODES}")
    if len(str(folder)) > LONGEST_FOLDER:
        raise Problem(f"{folder}: more than {LONGEST_FOLDER} characters, too long for sockets; choose another --dir")
    if set(str(folder)) & set(" \t#\"'\\,[]%=()"):
        raise Problem(f"{folder}: has a character that Slurm's files cannot hold; choose another --dir")
    old = written(folder)
    if old:
        down(old)
    elif folder.exists() and any(item.name != "lock" for item in folder.iterdir()):
        raise Problem(f"{folder} holds something else than a cluster; choose another --dir")
    cluster = Cluster(str(folder), count, free_ports(folder, count + 2))
    for name in WIPED:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(mode=0o755)
    (folder / "cluster.json").write_text(json.dumps(asdict(cluster)), encoding="utf-8")
    private(folder / "munge" / "key", os.urandom(128))
    for gpu in ("gpu0", "gpu1"):
        (folder / "dev" / gpu).symlink_to("/dev/null")
    words = asdict(cluster) | host_words() | {"accounting_port": cluster.port + 1}
    nodes = [
        NODE.format_map(words | {"name": name, "port": cluster.port + 2 + i}) for i, name in enumerate(cluster.nodes)
    ]
    words["nodes"] = "\n".join(nodes)
    words["first_job"] = 1 + int(time.time() * 10) % 60_000_000
    for name, text in (("slurm.conf", SLURM), ("gres.conf", GRES), ("slurmdbd.conf", SLURMDBD)):
        private(folder / "etc" / name, text.format_map(words).encode())
        if name != "slurmdbd.conf":
            (folder / "etc" / name).chmod(0o644)
    return cluster


def host_words() -> dict[str, str]:
    """Return what the configuration says of this host.

    Slurm listens on the address of the host's name or on all addresses. So the ports are on the loopback interface only
    where the name leads to 127.0.0.1; elsewhere they are open, and the cluster's key alone protects them.
    """
    try:
        inside = socket.gethostbyname(platform.node()) == "127.0.0.1"
    except OSError:
        inside = False
    listen = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if inside else ""
    return {"host": platform.node().partition(".")[0], "listen": listen}


def private(file: Path, content: bytes) -> None:
    """Write a file that only root can read."""
    file.touch(mode=0o600)
    file.write_bytes(content)


def free_ports(folder: Path, count: int) -> int:
    """Return the first of ``count`` ports in a row that nobody uses. Every folder begins to look at another place."""
    places = range(17000, 31000, 100)
    begin = zlib.crc32(str(folder).encode()) % len(places)
    for first in [*places[begin:], *places[:begin]]:
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("", port))
            return first
    raise Problem(f"no {count} free ports in a row between 17000 and 31000")


def down(cluster: Cluster) -> None:
    """Take everything down. Jobs that run are killed; logs and configuration are kept, queue and accounting are not."""
    stop(cluster, "slurmctld")
    cut_power(cluster, cluster.nodes)
    for daemon in ("slurmdbd", "mariadbd", "munged"):
        stop(cluster, daemon)
    for name in ("run", "munge", "spool", "state", "db", "dev"):
        shutil.rmtree(Path(cluster.folder, name), ignore_errors=True)


def status(cluster: Cluster) -> int:
    """Print what runs; return 0 if all of it does, else 1."""
    pids = {daemon: daemon_pid(cluster, daemon) for daemon in daemons(cluster)}
    states = node_states(cluster) if pids["slurmctld"] else {}
    for daemon, pid in pids.items():
        what = f"pid {pid}" if pid else "not running"
        node = daemon.removeprefix("slurmd-")
        print(f"{daemon:15} {what:15} {states.get(node, '')}".rstrip())
    print(f"ports {cluster.port} to {cluster.port + 1 + cluster.count}, logs in {cluster.folder}/log")
    return 0 if all(pids.values()) else 1


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


# The command line.


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time change a folder's cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    top = argparse.ArgumentParser(prog="dev-cluster", description="A real Slurm on this machine. Needs root.")
    top.add_argument(
        "--dir", type=Path, default=ROOT / ".dev-cluster", help="the cluster's folder (.dev-cluster in the checkout)"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("install", help="install Debian's packages; starts nothing")
    verb = verbs.add_parser("up", help="bring it up, or start what does not run, and wait until it is ready")
    verb.add_argument("nodes", nargs="?", type=int, metavar="N", help="nodes of 4 CPUs, 4 GB, 2 fake GPUs (4)")
    verbs.add_parser("down", help="stop everything; jobs are killed, the queue is forgotten, logs stay")
    verbs.add_parser("status", help="what runs; exit code 0 if all of it does")
    verbs.add_parser("env", help="print the line of shell that points sbatch, squeue, ... at it")
    for name, text in (("kill-node", "a node loses power: its jobs die"), ("start-node", "a node comes back")):
        verbs.add_parser(name, help=text).add_argument("node", metavar="NAME")
    verb = verbs.add_parser("restart-controller", help="stop slurmctld and start it again")
    verb.add_argument("--kill", action="store_true", help="kill -9, as in a crash: it loses up to 5 s of the queue")
    return top


def main() -> int:
    """Do what the command line says; 0 is fine, 1 failed, 2 is bad usage."""
    arguments = parser().parse_args()
    folder = arguments.dir.resolve()
    try:
        if arguments.verb == "env":
            print(environment(present(folder)))
        elif os.geteuid() != 0:
            raise Problem(f"{arguments.verb} needs root: the daemons start jobs; run it with sudo or in a container")
        elif arguments.verb == "install":
            install()
        elif arguments.verb == "status":
            return status(present(folder))
        else:
            change(folder, arguments)
    except Problem as problem:
        print(f"dev-cluster: {problem}", file=sys.stderr)
        return 1
    return 0


def change(folder: Path, arguments: argparse.Namespace) -> None:
    """Do a verb that starts or stops something."""
    if arguments.verb != "up":
        present(folder)
    with alone(folder):
        if arguments.verb == "up":
            up(folder, arguments.nodes)
            return
        cluster = present(folder)
        if arguments.verb in ("kill-node", "start-node") and arguments.node not in cluster.nodes:
            raise Problem(f"no node {arguments.node!r}; there are {', '.join(cluster.nodes)}")
        verbs: Mapping[str, Callable[[], None]] = {
            "down": lambda: down(cluster),
            "kill-node": lambda: kill_node(cluster, arguments.node),
            "start-node": lambda: start_nodes(cluster, [arguments.node]),
            "restart-controller": lambda: restart_controller(cluster, arguments.kill),
        }
        verbs[arguments.verb]()
