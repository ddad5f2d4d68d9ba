"""The files of a cluster (configuration from templates, key, fake GPUs) and its ports."""

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
LONGEST_FOLDER = 67  # characters; a socket's path has at most 107, and one is FOLDER/spool/node64/node64_JOB.STEP
WIPED = ("etc", "run", "munge", "spool", "state", "db", "dev", "log")
PORTS = range(17000, 31000, 100)  # possible first ports of a cluster

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
# Slurm requires that a GPU's file is a device; a link to one is accepted.
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


def check_folder(folder: Path, count: int) -> None:
    """Check that a folder can become a cluster of ``count`` nodes.

    Raises:
        ClusterError: there are too many nodes, Slurm cannot handle the path, or the folder contains something else.
    """
    if not 1 <= count <= MOST_NODES:
        raise ClusterError(f"{count} nodes; expected 1 to {MOST_NODES}")
    if len(str(folder)) > LONGEST_FOLDER:
        raise ClusterError(
            f"{folder}: more than {LONGEST_FOLDER} characters, too long for sockets; choose another --dir"
        )
    if set(str(folder)) & set(" \t#\"'\\,[]%=()"):
        raise ClusterError(f"{folder}: has a character that Slurm's files cannot hold; choose another --dir")
    foreign = {item.name for item in folder.iterdir()} - {"lock"} if folder.exists() else set()
    if foreign and not (folder / "cluster.json").exists():
        raise ClusterError(f"{folder} holds something else than a cluster; choose another --dir")


def write_files(cluster: Cluster) -> None:
    """Write the files of a new cluster; those of an earlier one in the same folder are deleted."""
    folder = Path(cluster.folder)
    (folder / "cluster.json").write_text(json.dumps(asdict(cluster)), encoding="utf-8")
    for name in WIPED:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for gpu in ("gpu0", "gpu1"):
        (folder / "dev" / gpu).symlink_to("/dev/null")
    values = asdict(cluster) | host_values() | {"accounting_port": cluster.port + 1}
    values["first_job"] = 1 + int(time.time() * 10) % 60_000_000
    ports = enumerate(cluster.nodes, start=cluster.port + 2)
    values["nodes"] = "\n".join(NODE.format_map(values | {"name": name, "port": port}) for port, name in ports)
    (folder / "etc" / "slurm.conf").write_text(SLURM.format_map(values), encoding="utf-8")
    (folder / "etc" / "gres.conf").write_text(GRES.format_map(values), encoding="utf-8")
    for file, content in (("etc/slurmdbd.conf", SLURMDBD.format_map(values).encode()), ("munge/key", os.urandom(128))):
        (folder / file).touch(mode=0o600)  # the daemons refuse files that others can read
        (folder / file).write_bytes(content)


def host_values() -> dict[str, str]:
    """Return the values of the templates that depend on this host.

    Slurm listens on the address of the host's name or on all addresses. Where the name resolves to 127.0.0.1 the ports
    are therefore closed to other machines; elsewhere they are open, and only the cluster's key protects them.
    """
    try:
        resolves_to_loopback = socket.gethostbyname(platform.node()) == "127.0.0.1"
    except OSError:
        resolves_to_loopback = False
    listen = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if resolves_to_loopback else ""
    return {"host": platform.node().partition(".")[0], "listen": listen}


@contextmanager
def free_ports(folder: Path, count: int) -> Iterator[int]:
    """Yield the first of ``count`` consecutive free ports, which no other cluster gets while the context is open.

    Daemons that are started in the context hold the ports afterwards.

    Raises:
        ClusterError: there are no such ports.
    """
    begin = zlib.crc32(str(folder).encode()) % len(PORTS)  # folders begin to look at different places
    for first in [*PORTS[begin:], *PORTS[:begin]]:
        with socket.socket(socket.AF_UNIX) as claim:
            if claim_ports(claim, first, count):
                yield first
                return
    raise ClusterError(f"no {count} free ports in a row between {PORTS.start} and {PORTS.stop}")


def claim_ports(claim: socket.socket, first: int, count: int) -> bool:
    """Claim ports by binding ``claim`` to a name that only one process of the machine can have; return whether this
    worked and nobody listens on them."""
    try:
        claim.bind(f"\0dev-cluster-{first}")
        for port in range(first, first + count):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", port))
    except OSError:
        return False
    return True
