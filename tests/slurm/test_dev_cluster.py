"""slurm/dev-cluster on this machine: jobs, GPUs, lost nodes, restarts, preemption, and nothing left behind."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from dev_slurm import DEV_CLUSTER, ROOT, DevSlurm
from submitit.slurm.slurm import _make_sbatch_string

from bench.sweep.profile import Profile

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def settled(cluster: DevSlurm) -> None:
    cluster.settle()


def pids(cluster: DevSlurm) -> dict[str, str]:
    return {file.name: file.read_text().strip() for file in (cluster.folder / "run").glob("*.pid")}


def lives(pid: str | int) -> bool:
    """Whether a process runs; one that is dead and not yet fetched by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_jobs_see_the_gpus_they_asked_for(cluster: DevSlurm) -> None:
    script = 'echo "$SLURMD_NODENAME:$CUDA_VISIBLE_DEVICES"; srun printenv CUDA_VISIBLE_DEVICES'
    two = cluster.submit(script, "--gpus-per-node=2", "--nodelist=node3")
    single_gpu = cluster.submit("srun printenv CUDA_VISIBLE_DEVICES", "--gpus-per-node=1")
    none = cluster.submit('echo "[$CUDA_VISIBLE_DEVICES]"')
    for job in (two, single_gpu, none):
        cluster.wait(job, "COMPLETED")
    assert cluster.output(two) == ["node3:0,1", "0,1"]
    assert cluster.output(single_gpu) == ["0"]
    assert cluster.output(none) == ["[]"]

    def accounted() -> bool:
        answer = cluster.run("sacct", "-X", "--noheader", "--parsable2", "--format=State,AllocTRES", "-j", two)
        return answer.startswith("COMPLETED|") and "gres/gpu=2" in answer

    cluster.until(accounted, "sacct knows the job and its GPUs")


def test_a_dead_node_loses_its_jobs_to_another_and_comes_back(cluster: DevSlurm) -> None:
    # The second process leaves the job's session and environment, as a careless data loader may.
    script = 'srun bash -c "setsid env -i sleep 600 & echo \\$\\$ \\$!; sleep 600"'
    job = cluster.submit(script, "--requeue", "--exclude=node4")
    cluster.until(lambda: cluster.output(job), "the job runs")
    first = cluster.job_field(job, "NodeList")
    begun = cluster.output(job)
    workers = begun[0].split()
    assert all(map(lives, workers))
    other = cluster.submit("sleep 600", "--nodelist=node4")
    cluster.wait(other, "RUNNING")

    cluster.control("kill-node", first)
    assert cluster.node(first).startswith("down")
    assert not any(map(lives, workers))
    assert cluster.output(job) == begun  # nobody had time to say that something is wrong
    cluster.until(lambda: len(cluster.output(job)) == 2, "the job runs again")
    assert cluster.job_field(job, "Restarts") == "1"
    assert cluster.job_field(job, "NodeList") not in (first, "node4")
    assert (cluster.job_field(other, "JobState"), cluster.job_field(other, "Restarts")) == ("RUNNING", "0")

    cluster.control("start-node", first)
    assert cluster.node(first) == "idle"


def test_the_queue_outlives_the_controller(cluster: DevSlurm) -> None:
    running = cluster.submit("sleep 4; echo done")
    held = cluster.submit("echo later", "--hold")
    cluster.wait(running, "RUNNING")
    before = pids(cluster)
    cluster.control("restart-controller")
    cluster.control("restart-controller", "--kill")
    after = pids(cluster)
    assert before.pop("slurmctld.pid") != after.pop("slurmctld.pid")
    assert before == after
    assert cluster.job_field(held, "JobState") == "PENDING"
    cluster.run("scontrol", "release", held)
    for job, says in ((running, "done"), (held, "later")):
        cluster.wait(job, "COMPLETED")
        assert cluster.output(job) == [says]


def test_the_normal_partition_preempts_the_low_one(cluster: DevSlurm) -> None:
    whole_node = ("--nodelist=node2", "--exclusive")
    script = "trap 'echo told; kill %1; exit 1' USR2; echo begun; sleep 600 & wait"
    low = cluster.submit(
        f'srun bash -c "{script}"; sleep 600', *whole_node, "--partition=low", "--signal=USR2@60", "--requeue"
    )
    cluster.until(lambda: cluster.output(low) == ["begun"], "the low job runs")
    high = cluster.submit("sleep 1", *whole_node)
    cluster.wait(high, "COMPLETED")
    assert cluster.output(low)[:2] == ["begun", "told"]  # before the normal job could start
    cluster.until(lambda: cluster.output(low).count("begun") == 2, "the low job runs again")
    assert cluster.job_field(low, "Restarts") == "1"


def test_up_starts_only_what_does_not_run(cluster: DevSlurm) -> None:
    before = pids(cluster)
    cluster.control("up", "4")
    assert pids(cluster) == before
    os.kill(int(before["slurmd-node4.pid"]), signal.SIGKILL)
    cluster.run("scontrol", "update", "nodename=node1", "state=drain", "reason=a launch has failed")
    with pytest.raises(AssertionError, match=r"slurmd-node4 +not running"):
        cluster.control("status")
    cluster.control("up")
    after = pids(cluster)
    assert before.pop("slurmd-node4.pid") != after.pop("slurmd-node4.pid")
    assert before == after
    assert cluster.node("node1") == "idle"
    with pytest.raises(AssertionError, match="4 nodes running"):
        cluster.control("up", "3")
    with pytest.raises(AssertionError, match="no node 'node9'; there are node1, "):
        cluster.control("kill-node", "node9")


def batch(profile: Profile, folder: Path, command: str) -> Path:
    """Write the script that Submitit would submit with a profile."""
    file = folder / "batch.sh"
    file.write_text(_make_sbatch_string(command=command, folder=folder, **profile.submitit_parameters("try")))
    return file


def test_a_job_of_the_profile_gets_what_it_asks_for(cluster: DevSlurm, tmp_path: Path) -> None:
    profile = Profile.read(ROOT / "slurm" / "profiles" / "dev-cluster.toml")
    file = batch(profile, tmp_path, "printenv HF_HUB_OFFLINE OMP_NUM_THREADS SLURM_CPUS_PER_TASK")
    job = cluster.run("sbatch", "--parsable", str(file)).strip()
    cluster.wait(job, "COMPLETED")
    assert (tmp_path / f"{job}_0_log.out").read_text().split() == ["1", "1", str(profile.cpus)]
    fields = ("Partition", "Requeue", "TimeLimit", "MinMemoryNode", "Comment")
    assert {key: cluster.job_field(job, key) for key in fields} == {
        "Partition": profile.partition,
        "Requeue": "1",
        "TimeLimit": "00:30:00",
        "MinMemoryNode": "922M",
        "Comment": "vlpet-bench",
    }


@pytest.mark.parametrize("name", ["cpu", "gpu", "gpu-preemptible"])
def test_sbatch_knows_every_option_of_a_profile(cluster: DevSlurm, tmp_path: Path, name: str) -> None:
    profile = Profile.read(ROOT / "slurm" / "profiles" / f"{name}.toml")
    file = batch(profile, tmp_path, "true")
    smaller = ("--partition=main", "--cpus-per-task=2", "--mem=100")  # as they are here
    cluster.run("sbatch", "--test-only", *smaller, str(file))
    with pytest.raises(AssertionError, match="invalid partition"):
        cluster.run("sbatch", "--test-only", str(file))


def test_down_leaves_nothing_and_touches_no_other_cluster(
    cluster: DevSlurm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = DevSlurm(tmp_path_factory.mktemp("small"))
    with pytest.raises(AssertionError, match="no cluster in"):
        small.control("down")
    neighbour = cluster.submit("sleep 600")
    exported = small.control("up", "2")
    try:
        assert exported == f"export SLURM_CONF={small.env['SLURM_CONF']}\n" == small.control("env")
        stubborn = small.submit("trap '' TERM USR2; echo $$; srun bash -c 'trap \"\" TERM; echo $$; sleep 600'", "-n1")
        small.until(lambda: len(small.output(stubborn)) == 2, "the job runs")
        everything = [*pids(small).values(), *small.output(stubborn)]
        assert len(everything) == 4 + 2 + 2
        assert all(map(lives, everything))
        first, last = map(int, re.findall(r"ports (\d+) to (\d+)", small.control("status"))[0])
        assert all(map(listens, range(first, last + 1)))
    finally:
        small.control("down")
    assert not any(map(lives, everything))
    assert not [
        pid for pid in os.listdir("/proc") if pid.isdigit() and lives(pid) and str(small.folder) in process_text(pid)
    ]
    assert not [path for path in small.folder.rglob("*") if path.is_socket()]
    assert not any(map(listens, range(first, last + 1)))
    assert (small.folder / "log" / "slurmctld.log").exists()
    small.control("down")
    cluster.control("status")
    assert cluster.job_field(neighbour, "JobState") == "RUNNING"


def process_text(pid: str) -> str:
    """The arguments and the environment of a process."""
    try:
        return "".join(Path(f"/proc/{pid}/{part}").read_text(errors="replace") for part in ("cmdline", "environ"))
    except OSError:
        return ""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_daemon_that_does_not_start_is_named_with_its_log(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("broken")
    munged = place / "bin" / "munged"
    munged.parent.mkdir()
    munged.write_text("#!/bin/sh\necho out of entropy\nexit 3\n")
    munged.chmod(0o755)
    command = [str(DEV_CLUSTER), "--dir", str(place / "c"), "up", "1"]
    environ = os.environ | {"PATH": f"{munged.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"dev-cluster: munged ended (out of entropy); see {place}/c/log/munged.log\n"
    assert not list(pids(DevSlurm(place / "c")))
