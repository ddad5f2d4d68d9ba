"""What slurm/dev-cluster takes for its own, and what it refuses, without a Slurm."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dev_cluster import verbs
from dev_cluster.cluster import Cluster
from dev_cluster.files import PORTS, check_folder, free_ports, write_files
from dev_cluster.processes import daemon_pid


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call the command line as root with everything installed; return the one line with which it refuses."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(verbs, "missing_programs", list)

    def refused(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dev-cluster", *words])
        assert verbs.main() == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("dev-cluster: ")
        assert len(captured.err.splitlines()) == 1
        return captured.err

    return refused


@pytest.mark.parametrize("verb", ["install", "up", "down", "status", "restart-controller"])
def test_who_is_not_root_is_told(call: Callable[..., str], monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert f"{verb} needs root" in call(verb)


def test_what_is_not_installed_is_named(
    call: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verbs, "missing_programs", lambda: ["slurmctld", "munged"])
    assert "not installed: slurmctld, munged; `dev-cluster install`" in call("--dir", str(tmp_path / "c"), "up")


@pytest.mark.parametrize("verb", ["down", "status", "env", "restart-controller"])
def test_a_folder_without_a_cluster_is_told(call: Callable[..., str], tmp_path: Path, verb: str) -> None:
    assert "no cluster in" in call("--dir", str(tmp_path / "c"), verb)
    assert not (tmp_path / "c").exists()


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: sockets would not fit into long ones."""
    return tmp_path_factory.mktemp("at")


@pytest.mark.parametrize(
    ("name", "count", "fault"),
    [
        ("mine", 4, "something else than a cluster"),
        ("long" * 20, 4, "too long for sockets"),
        ("a b", 4, "cannot hold"),
        ("new", 0, "expected 1 to"),
        ("new", 65, "expected 1 to"),
    ],
)
def test_a_folder_that_will_not_do_is_left_alone(
    call: Callable[..., str], place: Path, name: str, count: int, fault: str
) -> None:
    kept = place / "mine" / "run"
    kept.parent.mkdir()
    kept.write_text("precious")
    assert fault in call("up", str(count), "--dir", str(place / name))
    assert kept.read_text() == "precious"


def test_a_new_cluster_keeps_nothing_of_an_old_one_and_its_secrets_to_itself(place: Path) -> None:
    write_files(Cluster(str(place), 2, 17000))
    key = (place / "munge" / "key").read_bytes()
    (place / "state" / "job_state").touch()
    check_folder(place, 3)
    write_files(Cluster(str(place), 3, 17000))
    assert not list((place / "state").iterdir())
    assert (place / "munge" / "key").read_bytes() != key
    assert {(place / file).stat().st_mode & 0o077 for file in ("munge/key", "etc/slurmdbd.conf")} == {0}
    conf = (place / "etc" / "slurm.conf").read_text()
    assert [line.split()[0] for line in conf.splitlines() if line.startswith("NodeName")] == [
        f"NodeName=node{number}" for number in (1, 2, 3)
    ]


def test_ports_are_given_to_one_cluster_at_a_time(place: Path) -> None:
    with free_ports(place, 6) as first, free_ports(place, 6) as second:
        assert first != second
        assert {first, second} <= set(PORTS)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first + 5))
        listener.listen()
        with free_ports(place, 6) as third:
            assert third != first
        with free_ports(place, 5) as fourth:
            assert fourth == first


@pytest.mark.parametrize("named", ["another program", "another cluster"])
def test_down_spares_a_process_that_has_a_daemons_old_pid(place: Path, named: str) -> None:
    cluster = Cluster(str(place), 1, 17000)
    write_files(cluster)
    program = place / ("slurmctld" if named == "another cluster" else "other")
    shutil.copy(shutil.which("sleep") or "", program)
    # What tells a daemon of this cluster is its name and the cluster's folder in its arguments or environment.
    with subprocess.Popen(
        ["sleep", "60"], executable=program, env={"SLURM_CONF": "/elsewhere/etc/slurm.conf"}
    ) as stranger:
        (place / "run" / "slurmctld.pid").write_text(f"{stranger.pid}\n")
        assert daemon_pid(cluster, "slurmctld") is None
        verbs.down(cluster)
        assert stranger.poll() is None
        stranger.kill()
    with subprocess.Popen(["sleep", "60"], executable=program, env={"SLURM_CONF": str(cluster.conf)}) as process:
        (place / "run").mkdir()
        (place / "run" / "slurmctld.pid").write_text(f"{process.pid}\n")
        verbs.down(cluster)
        is_daemon = named == "another cluster"
        try:
            process.wait(10 if is_daemon else 0.3)  # on a busy machine it ends a moment after it was told to
        except subprocess.TimeoutExpired:
            assert not is_daemon
        else:
            assert is_daemon
        process.kill()
