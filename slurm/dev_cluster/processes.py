"""Starting, stopping and recognising the processes of a cluster.

A pid alone does not identify a process, because pids are reused. A zombie does not count as running.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dev_cluster.cluster import Cluster, ClusterError

TIMEOUT = 60.0  # seconds for things that take one or two on an idle machine


def process_info(pid: int) -> tuple[str, int] | None:
    """Return the name and the parent's pid of a running process, or None."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    state, parent = tail.split()[:2]
    return None if state in "ZX" else (head.partition("(")[2], int(parent))


def daemon_pid(cluster: Cluster, daemon: str) -> int | None:
    """Return the pid of a daemon of this cluster, read from its pid file, or None if it does not run."""
    try:
        pid = int(Path(cluster.folder, "run", f"{daemon}.pid").read_text(encoding="utf-8"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, ValueError):
        return None
    info = process_info(pid)
    belongs = info is not None and info[0] == daemon.partition("-")[0] and f"{cluster.folder}/".encode() in words
    return pid if belongs else None


def node_pids(cluster: Cluster, nodes: Sequence[str]) -> set[int]:
    """Return the pids of all processes of nodes: node daemons, step daemons, jobs and what these have started."""
    processes = {
        int(name): info for name in os.listdir("/proc") if name.isdigit() and (info := process_info(int(name)))
    }
    conf = f"SLURM_CONF={cluster.conf}".encode()
    marks = {f"SLURMD_NODENAME={node}".encode() for node in nodes}
    logs = {str(cluster.log(f"slurmd-{node}")) for node in nodes}
    pids = {pid for node in nodes if (pid := daemon_pid(cluster, f"slurmd-{node}"))}
    for pid, (name, _) in processes.items():
        with suppress(OSError):
            if name.startswith("slurmstepd"):  # it has an empty environment, but its node's log is open
                belongs = any(os.readlink(file) in logs for file in Path(f"/proc/{pid}/fd").iterdir())
            else:
                variables = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
                belongs = conf in variables and not marks.isdisjoint(variables)
            pids |= {pid} if belongs else set()
    while children := {pid for pid, (_, parent) in processes.items() if parent in pids} - pids:
        pids |= children
    return pids - {os.getpid()}


def cut_power(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Kill all processes of nodes. They are stopped first, so that none can report the death of another."""
    stopped: set[int] = set()
    while running := node_pids(cluster, nodes) - stopped:
        for pid in running:
            send_signal(pid, signal.SIGSTOP)
        stopped |= running
    # Children first, because the kernel wakes stopped processes when their parent dies.
    for pid in sorted(stopped, key=start_order, reverse=True):
        send_signal(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(process_info, stopped)), f"some of the processes {sorted(stopped)} do not die")


def start_order(pid: int) -> tuple[int, int]:
    """Return a sort key for the age of a process: its start in clock ticks, and within a tick its pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, pid
    return int(stat.rpartition(")")[2].split()[19]), pid


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stop(cluster: Cluster, daemon: str, number: int = signal.SIGTERM) -> None:
    """Stop a daemon; it is killed if it does not end within 10 s."""
    pid = daemon_pid(cluster, daemon)
    if pid is None:
        return
    send_signal(pid, number)
    deadline = time.monotonic() + 10
    while daemon_pid(cluster, daemon) == pid:
        if time.monotonic() > deadline:
            send_signal(pid, signal.SIGKILL)
        time.sleep(0.05)


def start(cluster: Cluster, daemon: str, *words: str, ready: Callable[[], bool] = lambda: True) -> None:
    """Start a daemon unless it runs, and wait until it is ready.

    Raises:
        ClusterError: it has ended, or is not ready after a minute; the message names its log.
    """
    log, pid_file = cluster.log(daemon), Path(cluster.folder, "run", f"{daemon}.pid")
    process = None
    if daemon_pid(cluster, daemon) is None:
        pid_file.unlink(missing_ok=True)
        with log.open("a", encoding="utf-8") as out:
            # In the root folder, as daemons run; most of them put themselves into the background.
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

    wait_until(runs, f"{daemon} is not ready; see {log}")


def wait_until(condition: Callable[[], bool], fault: str) -> None:
    """Wait until a condition holds, or raise a ClusterError with the text ``fault`` after a minute."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"after {TIMEOUT:.0f} s, {fault}")
        time.sleep(0.05)
