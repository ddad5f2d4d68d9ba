"""A results folder of two people: each finished run is everybody's, and nobody's folder stops another's sweep."""

import grp
import os
import pwd
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fake_runs
import pytest

from bench.cli import main
from bench.config import resolve
from bench.run_dir import RunDir

WORDS = ["--methods", "lora", "--suites", "image-text", "--seeds", "1,2"]
SWEEP = ["sweep", *WORDS, "--device", "cpu", "--executor", "inline"]
STATUS, RETRY, CANCEL = ["status", *WORDS], ["retry", *WORDS, "--failed"], ["cancel", *WORDS]
RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2)]
USERS, GROUP = ("vlpet-test-a", "vlpet-test-b"), "vlpet-test"


class Outcome(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two users in one group, as long as the tests of this module take."""
    if os.geteuid() != 0:
        pytest.skip("making users needs root")
    try:
        subprocess.run(["groupadd", GROUP], check=True, capture_output=True)
        for user in USERS:
            subprocess.run(["useradd", "--no-create-home", "--gid", GROUP, user], check=True, capture_output=True)
        patch = pytest.MonkeyPatch()
        patch.setattr("bench.run.run_one", fake_runs.run_one)
        patch.setattr("bench.cli.sweep.check_inputs", lambda *inputs, partial: None)
        patch.setattr("bench.cli.sweep.write_report", lambda *inputs, **more: None)
        folder = str(tmp_path_factory.mktemp("first"))
        for words in (SWEEP, STATUS, RETRY, CANCEL):  # loads what the users, who may not read it, will use
            main([*words, "--results", folder])
        main(["show", RUNS[0].id, "--results", folder])
        yield
        patch.undo()
    finally:
        for user in USERS:
            subprocess.run(["userdel", user], check=False, capture_output=True)
        subprocess.run(["groupdel", GROUP], check=False, capture_output=True)


@pytest.fixture
def results() -> Iterator[Path]:
    """A folder of the group as its administrator makes it, in which the group of the folder is inherited."""
    with tempfile.TemporaryDirectory() as folder:  # pytest closes its own to others whenever it starts
        Path(folder).chmod(0o755)
        results = Path(folder) / "results"
        results.mkdir()
        results.chmod(0o2775)
        os.chown(results, 0, grp.getgrnam(GROUP).gr_gid)
        yield results


def bench(user: str, umask: int, *words: str, faults: str = "{}") -> Outcome:
    """Execute a command line as another user: in a process that becomes that user for good."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        child = os.fork()
        if not child:
            code = 1
            try:
                for stream, number in ((out, 1), (error, 2)):
                    os.dup2(stream.fileno(), number)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                account = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
                os.umask(umask)
                os.environ["FAKE_RUNS"] = faults
                code = main(words)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        error.seek(0)
        return Outcome(code, out.read(), error.read())


def sweep(user: str, umask: int, results: Path, faults: str = "{}") -> Outcome:
    return bench(user, umask, *SWEEP, "--results", str(results), faults=faults)


def records(results: Path) -> list[tuple[int, int]]:
    """Inode and owner of every record: which process of whom wrote it."""
    status = [RunDir(results, run.id).record.stat() for run in RUNS]
    return [(one.st_ino, one.st_uid) for one in status]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("umask", [0o002, 0o022], ids=["002", "022"])
def test_a_run_that_another_has_finished_is_done(umask: int, results: Path) -> None:
    first, second = USERS
    assert sweep(first, umask, results).returncode == 0
    before = records(results)
    RunDir(results, RUNS[0].id).weights.chmod(0o600)  # as earlier versions wrote them
    again = sweep(second, umask, results)
    assert again.returncode == 0 and "2 already done" in again.stderr and "ermission" not in again.stderr
    assert records(results) == before
    status = bench(second, umask, *STATUS, "--results", str(results))
    assert "2 done" in status.stdout and "ermission" not in status.stdout + status.stderr
    if umask == 0o002:
        paths = [path for path in results.rglob("*") if path.name != "weights.safetensors"]
        assert all(path.stat().st_mode & stat.S_IWGRP for path in paths)
        assert {path.group() for path in paths} == {GROUP}


@pytest.mark.usefixtures("people")
def test_what_another_has_begun_is_gone_on_with_where_the_group_may_write(results: Path) -> None:
    first, second = USERS
    assert sweep(first, 0o002, results, faults='{"1": "interrupt"}').returncode == 130
    assert sweep(second, 0o002, results).returncode == 0
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
    assert sweep(first, 0o022, results, faults='{"1": "interrupt"}').returncode == 130
    again = sweep(second, 0o022, results)
    assert again.returncode == 1
    assert f"{RUNS[0].id} is left to its owner" in again.stderr and "Permission denied" in again.stderr
    assert f"  {RUNS[0].id}: interrupted (SIGINT)" in again.stderr
    assert [RunDir(results, run.id).record.exists() for run in RUNS] == [False, True]
    for words in (RETRY, CANCEL):
        assert bench(second, 0o022, *words, "--results", str(results)).returncode == 0
    (results / "ledger.txt").unlink()
    assert sweep(first, 0o022, results).returncode == 0
    assert RunDir(results, RUNS[0].id).record.owner() == first


@pytest.mark.usefixtures("people")
def test_where_one_may_write_nothing_the_done_runs_are_seen(results: Path) -> None:
    """The first user's umask closes even the folder of runs and that of plans."""
    first, second = USERS
    assert sweep(first, 0o022, results).returncode == 0
    before = records(results)
    more = bench(second, 0o022, *SWEEP, "--seeds", "1,2,3", "--results", str(results))
    assert (
        more.returncode == 1 and "2 already done" in more.stderr and "sweeps belongs to another person" in more.stderr
    )
    assert "is left to its owner" in more.stderr and "-s3-" in more.stderr
    assert records(results) == before


@pytest.mark.usefixtures("people")
def test_a_folder_that_may_not_be_looked_into_is_unreadable_and_not_corrupt(results: Path) -> None:
    first, second = USERS
    assert sweep(first, 0o002, results).returncode == 0
    before = records(results)
    closed = RunDir(results, RUNS[0].id)
    closed.path.chmod(0o700)
    again = sweep(second, 0o002, results)
    assert again.returncode == 1 and "Traceback" not in again.stderr
    status = bench(second, 0o002, *STATUS, "--results", str(results))
    assert "unreadable" in status.stdout and f"ask its owner {first}" in status.stdout + again.stderr
    for words in (["list"], ["du"], ["status", "--all"]):
        seen = bench(second, 0o002, *words, "--results", str(results))
        assert seen.returncode == 0 and "Traceback" not in seen.stderr, seen.stderr
        assert "ermission" in seen.stdout or "unreadable" in seen.stdout
    kept = bench(second, 0o002, "rm", closed.id, "--yes", "--results", str(results))
    assert kept.returncode == 1 and closed.path.exists() and "Traceback" not in kept.stderr
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        merged = bench(second, 0o002, "merge", str(results), "--results", f"{folder}/merged")
        assert merged.returncode == 1 and f"ask its owner {first}" in merged.stdout, merged
        assert (Path(folder) / "merged" / "runs" / RUNS[1].id / "record.json").exists()
    closed.path.chmod(0o2775)
    closed.record.chmod(0o600)
    assert f"ask its owner {first}" in bench(second, 0o002, "show", RUNS[0].id, "--results", str(results)).stdout
    closed.record.chmod(0o664)
    assert records(results) == before
