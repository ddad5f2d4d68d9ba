"""Processes of a cluster: finding those that belong to it, starting and stopping them.

A pid alone is no proof, because pids are used again. A process that is dead but not yet waited for by its parent does
not count as running.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dev_cluster.cluster import Cluster, ClusterError

PATIENCE = 60.0  # seconds to wait for what takes one or two on an idle machine


def name_and_parent(pid: int) -> tuple[str, int] | None:
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
    process = name_and_parent(pid)
    ours = process is not None and process[0] == daemon.partition("-")[0] and f"{cluster.folder}/".encode() in words
    return pid if ours else None


def node_pids(cluster: Cluster, nodes: Sequence[str]) -> set[int]:
    """Return the pids of all processes of some nodes: node daemons, step daemons, jobs and their descendants."""
    candidates = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    processes = {pid: process for pid in candidates if (process := name_and_parent(pid))}
    conf = f"SLURM_CONF={cluster.conf}".encode()
    marks = {f"SLURMD_NODENAME={node}".encode() for node in nodes}
    logs = {str(cluster.log(f"slurmd-{node}")) for node in nodes}
    pids = {pid for node in nodes if (pid := daemon_pid(cluster, f"slurmd-{node}"))}
    for pid, (name, _) in processes.items():
        with suppress(OSError):
            if name.startswith("slurmstepd"):  # it has no environment, but its node's log open
                ours = any(os.readlink(file) in logs for file in Path(f"/proc/{pid}/fd").iterdir())
            else:
                variables = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
                ours = conf in variables and not marks.isdisjoint(variables)
            pids |= {pid} if ours else set()
    while more := {pid for pid, (_, parent) in processes.items() if parent in pids} - pids:
        pids |= more
    return pids - {os.getpid()}


def cut_power(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Kill all processes of some nodes. They are stopped first, so that none can report the death of another."""
    stopped: set[int] = set()
    while fresh := node_pids(cluster, nodes) - stopped:
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
    # Children first: the kernel wakes stopped ones whose parent has died.
    for pid in sorted(stopped, key=born, reverse=True):
        send(pid, signal.SIGKILL)
    until(lambda: not any(map(name_and_parent, stopped)), f"some of the processes {sorted(stopped)} do not die")


def born(pid: int) -> tuple[int, int]:
    """Return a key that sorts processes by age: the start time in clock ticks, and within a tick the pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, pid
    return int(stat.rpartition(")")[2].split()[19]), pid


def send(pid: int, number: int) -> None:
    """Send a signal to a process, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stop(cluster: Cluster, daemon: str, number: int = signal.SIGTERM) -> None:
    """Stop a daemon, by force if it does not go within 10 s."""
    pid = daemon_pid(cluster, daemon)
    if pid is None:
        return
    send(pid, number)
    deadline = time.monotonic() + 10
    while daemon_pid(cluster, daemon) == pid:
        if time.monotonic() > deadline:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)


def start(cluster: Cluster, daemon: str, *words: str, ready: Callable[[], bool] = lambda: True) -> None:
    """Start a daemon, unless it runs, and wait until it is ready.

    Raises:
        ClusterError: it ends, or is not ready for a long time; the log is named.
    """
    log, pid_file = cluster.log(daemon), Path(cluster.folder, "run", f"{daemon}.pid")
    process = None
    if daemon_pid(cluster, daemon) is None:
        pid_file.unlink(missing_ok=True)
        with log.open("a", encoding="utf-8") as out:
            # From the root folder, like a daemon; most put themselves into the background.
            process = subprocess.Popen(
                words,
                env=cluster.environ,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def runs() -> bool:
        begun = pid_file.exists() and pid_file.stat().st_size > 0
        pid = daemon_pid(cluster, daemon)
        if (process and process.poll()) or (begun and pid is None):
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            raise ClusterError(f"{daemon} ended ({''.join(lines[-1:])}); see {log}")
        return pid is not None and ready()

    until(runs, f"{daemon} is not ready; see {log}")


def until(true: Callable[[], bool], fault: str) -> None:
    """Wait until a condition holds.

    Raises:
        ClusterError: it did not within PATIENCE seconds; the message ends with ``fault``.
    """
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise ClusterError(f"after {PATIENCE:.0f} s, {fault}")
        time.sleep(0.05)
