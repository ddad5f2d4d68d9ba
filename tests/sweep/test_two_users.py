"""A results folder of two people: each finished run is everybody's, and nobody's folder stops another's sweep."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.config import resolve
from bench.run_dir import RunDir

WORDS = ["--methods", "lora", "--suites", "image-text", "--seeds", "1,2", "--device", "cpu", "--quiet"]
RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2)]
USERS, GROUP = ("vlpet-test-a", "vlpet-test-b"), "vlpet-test"
CODE = """
import os, sys, fake_runs
os.umask(int(sys.argv[1], 8))
sys.modules["bench.run"] = fake_runs
import bench.cli.sweep
bench.cli.sweep.check_inputs = lambda *inputs: None
bench.cli.sweep.write_report = lambda *inputs, **more: None
from bench.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def people() -> Iterator[None]:
    """Two users in one group, as long as the tests of this module take."""
    if os.geteuid() != 0:
        pytest.skip("making users needs root")
    try:
        subprocess.run(["groupadd", GROUP], check=True, capture_output=True)
        for user in USERS:
            subprocess.run(["useradd", "--no-create-home", "--gid", GROUP, user], check=True, capture_output=True)
        code = "import sys, bench, torch"
        if subprocess.run([sys.executable, "-c", code], user=USERS[0], cwd="/", env=environment()).returncode:
            pytest.skip("another user cannot execute this Python or read this checkout")
        yield
    finally:
        for user in USERS:
            subprocess.run(["userdel", user], check=False, capture_output=True)
        subprocess.run(["groupdel", GROUP], check=False, capture_output=True)


def environment(**more: str) -> dict[str, str]:
    tests = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    return {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **more}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of the group as its administrator makes it, in which the group of the folder is inherited."""
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    results = tmp_path / "results"
    results.mkdir()
    results.chmod(0o2775)
    os.chown(results, 0, int(subprocess.check_output(["getent", "group", GROUP]).split(b":")[2]))
    return results


def bench(user: str, umask: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, umask, *words]
    env = environment(**more)
    return subprocess.run(
        command, user=user, group=GROUP, extra_groups=[], cwd="/", env=env, capture_output=True, text=True, check=False
    )


def sweep(user: str, umask: str, results: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return bench(user, umask, "sweep", *WORDS, "--results", str(results), **more)


def records(results: Path) -> list[tuple[int, int]]:
    """Inode and owner of every record: which process of whom wrote it."""
    status = [RunDir(results, run.id).record.stat() for run in RUNS]
    return [(one.st_ino, one.st_uid) for one in status]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("umask", ["002", "022"])
def test_a_run_that_another_has_finished_is_done(umask: str, results: Path) -> None:
    first, second = USERS
    assert sweep(first, umask, results).returncode == 0
    before = records(results)
    RunDir(results, RUNS[0].id).weights.chmod(0o600)  # as earlier versions wrote them
    again = sweep(second, umask, results)
    assert (again.returncode, again.stderr) == (0, "")
    assert records(results) == before
    status = bench(second, umask, "status", *WORDS[:-3], "--results", str(results))
    assert "2 done" in status.stdout and "ermission" not in status.stdout + status.stderr
    if umask == "002":
        paths = [path for path in results.rglob("*") if path.name != "weights.safetensors"]
        assert all(path.stat().st_mode & stat.S_IWGRP for path in paths)
        assert {path.group() for path in paths} == {GROUP}


@pytest.mark.usefixtures("people")
def test_what_another_has_begun_is_gone_on_with_where_the_group_may_write(results: Path) -> None:
    first, second = USERS
    assert sweep(first, "002", results, FAKE_RUNS='{"1": "interrupt"}').returncode == 130
    assert sweep(second, "002", results).returncode == 0
    assert [RunDir(results, run.id).record.owner() for run in RUNS] == [second, second]
    assert not list(RunDir(results, RUNS[0].id).path.glob("attempt-*"))


@pytest.mark.usefixtures("people")
def test_what_may_not_be_written_is_left_to_its_owner_and_the_rest_goes_on(results: Path) -> None:
    first, second = USERS
    (results / "runs").mkdir()
    for path in (results / "runs", results / "sweeps"):
        path.mkdir(exist_ok=True)
        os.chown(path, 0, results.stat().st_gid)
        path.chmod(0o2775)
    assert sweep(first, "022", results, FAKE_RUNS='{"1": "interrupt"}').returncode == 130
    again = bench(second, "022", "sweep", *WORDS[:-1], "--results", str(results))
    assert again.returncode == 1
    assert f"{RUNS[0].id} is left to its owner" in again.stderr and "Permission denied" in again.stderr
    assert f"  {RUNS[0].id}: interrupted (SIGINT)" in again.stderr
    assert [RunDir(results, run.id).record.exists() for run in RUNS] == [False, True]
    for verb in ("retry", "cancel"):
        words = [verb, *WORDS[:-3], "--results", str(results), *(["--failed"] if verb == "retry" else [])]
        assert bench(second, "022", *words).returncode == 0
    assert sweep(first, "022", results).returncode == 0
    assert RunDir(results, RUNS[0].id).record.owner() == first


@pytest.mark.usefixtures("people")
def test_a_folder_that_may_not_be_looked_into_is_unreadable_and_not_corrupt(results: Path) -> None:
    first, second = USERS
    assert sweep(first, "002", results).returncode == 0
    before = records(results)
    closed = RunDir(results, RUNS[0].id)
    closed.path.chmod(0o700)
    again = sweep(second, "002", results)
    assert again.returncode == 1 and "Traceback" not in again.stderr
    status = bench(second, "002", "status", *WORDS[:-3], "--results", str(results))
    assert "unreadable" in status.stdout and f"ask its owner {first}" in status.stdout + again.stderr
    closed.path.chmod(0o2775)
    closed.record.chmod(0o600)
    assert f"ask its owner {first}" in bench(second, "002", "show", RUNS[0].id, "--results", str(results)).stdout
    closed.record.chmod(0o664)
    assert records(results) == before


