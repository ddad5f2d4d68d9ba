"""The folder of a cluster: Slurm's configuration as templates, ports, key, fake GPUs."""

import json
import os
import platform
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from dev_cluster.cluster import Cluster, ClusterError

MOST_NODES = 64
LONGEST_FOLDER = 67  # characters; a socket has at most 107, and FOLDER/spool/node64/node64_JOB.STEP is one
WIPED = ("etc", "run", "munge", "spool", "state", "db", "dev", "log")
PORTS = range(17000, 31000, 100)  # where a cluster's ports may begin

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


def check(folder: Path, count: int) -> None:
    """Refuse what cannot become a cluster.

    Raises:
        ClusterError: too many nodes, a path that Slurm cannot hold, or a folder with something else in it.
    """
    if not 1 <= count <= MOST_NODES:
        raise ClusterError(f"{count} nodes; expected 1 to {MOST_NODES}")
    if len(str(folder)) > LONGEST_FOLDER:
        raise ClusterError(
            f"{folder}: more than {LONGEST_FOLDER} characters, too long for sockets; choose another --dir"
        )
    if set(str(folder)) & set(" \t#\"'\\,[]%=()"):
        raise ClusterError(f"{folder}: has a character that Slurm's files cannot hold; choose another --dir")
    strange = {item.name for item in folder.iterdir()} - {"lock"} if folder.exists() else set()
    if strange and not (folder / "cluster.json").exists():
        raise ClusterError(f"{folder} holds something else than a cluster; choose another --dir")


def write(cluster: Cluster) -> None:
    """Write the folder of a new cluster. Nothing of an earlier one in it is kept."""
    folder = Path(cluster.folder)
    (folder / "cluster.json").write_text(json.dumps(asdict(cluster)), encoding="utf-8")
    for name in WIPED:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for gpu in ("gpu0", "gpu1"):
        (folder / "dev" / gpu).symlink_to("/dev/null")
    words = asdict(cluster) | host_settings() | {"accounting_port": cluster.port + 1}
    words["first_job"] = 1 + int(time.time() * 10) % 60_000_000
    ports = enumerate(cluster.nodes, start=cluster.port + 2)
    words["nodes"] = "\n".join(NODE.format_map(words | {"name": name, "port": port}) for port, name in ports)
    (folder / "etc" / "slurm.conf").write_text(SLURM.format_map(words), encoding="utf-8")
    (folder / "etc" / "gres.conf").write_text(GRES.format_map(words), encoding="utf-8")
    for file, content in (("etc/slurmdbd.conf", SLURMDBD.format_map(words).encode()), ("munge/key", os.urandom(128))):
        (folder / file).touch(mode=0o600)  # the daemons mind who else can read these
        (folder / file).write_bytes(content)


def host_settings() -> dict[str, str]:
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


@contextmanager
def free_ports(folder: Path, count: int) -> Iterator[int]:
    """Yield the first of ``count`` free ports in a row, which nobody else is given while the context lasts.

    Daemons started within it hold them afterwards.

    Raises:
        ClusterError: there are none.
    """
    begin = zlib.crc32(str(folder).encode()) % len(PORTS)  # every folder looks at another place first
    for first in [*PORTS[begin:], *PORTS[:begin]]:
        with socket.socket(socket.AF_UNIX) as claim:
            if available(claim, first, count):
                yield first
                return
    raise ClusterError(f"no {count} free ports in a row between {PORTS.start} and {PORTS.stop}")


def available(claim: socket.socket, first: int, count: int) -> bool:
    """Claim a place among the ports, by a name that one process of the machine can have, and see if nobody listens."""
    try:
        claim.bind(f"\0dev-cluster-{first}")
        for port in range(first, first + count):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", port))
    except OSError:
        return False
    return True
