"""Sweeps on a real Slurm, disturbed in every way it knows: each run has one record, that of an undisturbed sweep."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from chaos_faults import block_launch
from dev_slurm import DevSlurm
from sweeping import Sweeping, run, same, undisturbed

from bench.example_scores import example_scores
from bench.files import read_json_lines
from bench.records import load_frame
from bench.report import table_text
from bench.run_dir import RunDir
from bench.sweep import slurm_client

pytestmark = pytest.mark.slurm

SHORT = [run(method, seed) for method in ("lora", "projector-only") for seed in (1, 2)]
LONG = [run(method, steps=50) for method in ("lora", "projector-only", "bitfit")]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """The results of undisturbed inline sweeps."""
    results = tmp_path_factory.mktemp("inline")
    undisturbed([*SHORT, *LONG], results, tiny_root)
    return results


@pytest.fixture
def on(cluster: DevSlurm, reference: Path, tmp_path: Path, tiny_root: Path) -> Iterator[Sweeping]:
    cluster.settle()
    sweeping = Sweeping(cluster, tmp_path, tiny_root)
    yield sweeping
    sweeping.stop()


def table(results: Path) -> str:
    cells = [
        {key: getattr(run_, key) for key in ("method", "backbone", "suite", "seed")}
        | {"run_id": run_.id, "label": run_.title, "tasks": ["gqa"], "status": "done", "cause": None}
        for run_ in SHORT
    ]
    frame, ids = load_frame(results), [run_.id for run_ in SHORT]
    return table_text(frame[frame["run_id"].isin(ids)], cells, example_scores(results, ids)).strip()


def parent_named(pid: int, name: str) -> psutil.Process:
    return next(process for process in psutil.Process(pid).parents() if name in process.name())


def test_an_array_gives_the_table_of_an_inline_sweep(on: Sweeping, reference: Path) -> None:
    on.open()
    del on.env["NO_PICTURES"]
    output = on.sweep(SHORT, *on.profile(pack=2, parallel=2))
    assert "submitted 4 runs in 2 jobs" in output
    assert table(reference) in output
    same(on, SHORT, reference)
    assert len({on.job(run_).partition("_")[0] for run_ in SHORT}) == 1
    assert "0 to do, 4 already done" in on.sweep(SHORT, *on.profile())


def test_the_report_is_written_by_a_job_of_its_own_when_nobody_looks_on(on: Sweeping, reference: Path) -> None:
    on.open()
    sweep = on.start(SHORT[:2], *on.profile())
    on.until(lambda: any(sent.report for sent in slurm_client.submissions(on.results)), "submitted", 60)
    sweep.kill()  # as a terminal that is closed
    sweep.communicate()
    (submission,) = slurm_client.submissions(on.results)
    assert submission.report
    on.cluster.wait(submission.report, "COMPLETED", 120)
    same(on, SHORT[:2], reference)
    (log,) = on.results.glob(f"slurm/*/{submission.report}_0_log.out")
    assert "runs/ (one folder per run)" in log.read_text()


def test_runs_that_are_told_to_stop_go_on_where_they_were(on: Sweeping, reference: Path) -> None:
    sweep = on.start(LONG[:2], *on.profile())
    on.at_gate(*LONG[:2])
    on.cluster.run("scancel", "--signal=USR2", on.job(LONG[0]))
    on.cluster.run("scontrol", "requeue", on.job(LONG[1]))
    on.open()
    on.until(lambda: all(on.attempts(run_)[0].outcome for run_ in LONG[:2]), "they have stopped")
    assert {row["state"] for row in on.status(LONG[:2]).values()} <= {"preempted", "running"}
    on.end(sweep)
    same(on, LONG[:2], reference)
    for run_, name in zip(LONG, ("SIGUSR2", "SIGTERM"), strict=False):
        assert [(a.outcome, a.reason) for a in on.attempts(run_)] == [("interrupted", name), ("done", "")]
        first, second = read_json_lines(on.at(run_).segments)
        assert first["reason"] == name
        assert first["end_step"] == second["start_step"] >= 10


def test_a_job_of_two_nodes_with_two_processes_each_goes_on_where_it_was(on: Sweeping, reference: Path) -> None:
    (run_,) = LONG[:1]
    sweep = on.start([run_], *on.profile(nodes=2, gpus=2))
    on.at_gate(run_)
    on.cluster.run("scancel", "--signal=USR2", on.job(run_))
    on.open()
    on.end(sweep)
    record, expected = on.at(run_).read(), RunDir(reference, run_.id).read()
    assert record is not None and expected is not None
    assert record.status == "done", record.error
    assert record.environment["world_size"] == 4
    assert [(a.outcome, a.reason) for a in on.attempts(run_)] == [("interrupted", "SIGUSR2"), ("done", "")]
    first, second = record.segments
    assert first["end_step"] == second["start_step"] >= 10
    assert record.time["steps"] == expected.time["steps"]
    assert record.scores["gqa"].n == expected.scores["gqa"].n


def test_preempted_runs_give_way_and_come_back(on: Sweeping, reference: Path) -> None:
    sweep = on.start(LONG[:2], *on.profile(partition="low"))
    on.at_gate(*LONG[:2])
    high = on.cluster.submit("sleep 1", "--partition=main", "--nodes=4", "--exclusive", "--time=1")
    on.open()
    on.cluster.wait(high, "COMPLETED", 60)
    on.end(sweep)
    same(on, LONG[:2], reference)
    for run_ in LONG[:2]:
        assert [a.reason for a in on.attempts(run_)] == ["SIGUSR2", ""]


def test_a_lost_node_costs_nothing_whatever_its_clock_says(on: Sweeping, reference: Path) -> None:
    """The clock of the node that dies is an hour ahead, in what it says and in the times of its claims."""
    on.env["CLOCK_AHEAD_ON"] = "node1"
    sweep = on.start(LONG[:2], *on.profile())
    on.at_gate(*LONG[:2])
    lost = [run_ for run_ in LONG[:2] if on.node(run_) == "node1"]
    assert lost
    on.cluster.control("kill-node", "node1")
    on.cluster.run("scontrol", "update", "nodename=node1", "state=down", "reason=test")
    on.open()
    on.end(sweep)
    same(on, LONG[:2], reference)
    for run_ in lost:
        assert [a.outcome for a in on.attempts(run_)] == [None, "done"]
        assert on.node(run_) != "node1"
        assert [row["reason"] for row in read_json_lines(on.at(run_).segments)] == ["killed", "done"]


def test_what_is_killed_is_started_again(on: Sweeping, reference: Path) -> None:
    sweep = on.start(LONG, *on.profile())
    on.at_gate(*LONG)
    worker, step, script = LONG
    os.kill(on.attempts(worker)[-1].pid, signal.SIGKILL)
    parent_named(on.attempts(step)[-1].pid, "slurmstepd").kill()
    job = on.cluster.job_field(on.job(script), "JobId")
    lines = {p: " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])}
    shells = [p for p, line in lines.items() if f"job{job}/slurm_script" in line and str(on.cluster.folder) in line]
    assert shells
    for shell in shells:
        shell.kill()
    on.open()
    on.end(sweep)
    same(on, LONG, reference)
    assert [a.outcome for a in on.attempts(worker)] == [None, "done"]
    assert len(on.attempts(step)) == 1  # its task goes on without it
    assert len(on.attempts(script)) == 2


def test_what_slurm_has_lost_is_submitted_again(on: Sweeping, reference: Path) -> None:
    """Jobs that may not be queued again, without a report job; the name of the results folder is one for Slurm, too."""
    on.results = on.folder / "50% of %j"
    sweep = on.start(LONG[:2], *on.profile(requeue=False))
    on.at_gate(*LONG[:2])
    (submission,) = slurm_client.submissions(on.results)
    on.cluster.run("scancel", str(submission.report))
    for run_ in LONG[:2]:
        os.kill(on.attempts(run_)[-1].pid, signal.SIGKILL)
    on.open()
    assert "the jobs of 2 runs have died" in on.end(sweep)
    same(on, LONG[:2], reference)
    assert [[a.outcome for a in on.attempts(run_)] for run_ in LONG[:2]] == [[None, "done"]] * 2
    assert all(Path(str(attempt.log)).is_file() for run_ in LONG[:2] for attempt in on.attempts(run_))


def test_held_jobs_are_named_and_a_failed_launch_is_tried_again(on: Sweeping, reference: Path) -> None:
    sweep = on.start(LONG[:2], *on.profile())
    on.at_gate(*LONG[:2])
    held, unlaunched = (on.job(run_) for run_ in LONG[:2])
    on.cluster.run("scontrol", "requeuehold", held)
    raw = on.cluster.job_field(unlaunched, "JobId")
    on.cluster.run("scontrol", "requeue", unlaunched)
    unblock = block_launch(on.cluster, raw)
    on.open()

    def notes() -> list[str]:
        return [row["note"] for row in on.status(LONG[:2]).values()]

    on.until(
        lambda: any("they are held: scontrol release" in note for note in notes()), "a person sees what would help"
    )
    on.until(lambda: "launch failed" in on.cluster.run("squeue", "--noheader", "--format=%r"), "the launch has failed")
    unblock()
    on.cluster.run("scontrol", "release", held)
    output = on.end(sweep)
    assert f"they are held: scontrol release {held}" in output
    assert "1 jobs wait (1 released, to be tried again): launch failed requeued held" in output
    same(on, LONG[:2], reference)


def test_cancelled_runs_stop_and_are_run_when_asked_for_again(on: Sweeping, reference: Path) -> None:
    sweep = on.start(LONG[:2], *on.profile(parallel=1))
    on.at_gate(LONG[0])
    assert [row["state"] for row in on.status(LONG[:2]).values()] == ["running", "queued"]
    output = on.bench("cancel", *on.words(LONG[:2]))
    assert "2 runs cancelled" in output
    on.open()
    output = on.end(sweep, code=1)
    assert output.count("cancelled") >= 2
    assert [row["state"] for row in on.status(LONG[:2]).values()] == ["cancelled", "cancelled"]
    assert [(a.outcome, a.reason) for a in on.attempts(LONG[0])] == [("interrupted", "cancelled")]
    assert on.attempts(LONG[1]) == []
    on.sweep(LONG[:2], *on.profile())
    same(on, LONG[:2], reference)


def test_jobs_that_a_person_takes_out_of_the_queue_stay_out(on: Sweeping, reference: Path) -> None:
    sweep = on.start(LONG[:2], *on.profile(parallel=1))
    on.at_gate(LONG[0])
    on.cluster.run("scancel", on.job(LONG[0]).partition("_")[0])
    on.open()
    output = on.end(sweep, code=1)
    assert f"{LONG[0].id}: interrupted" in output
    assert f"{LONG[1].id}: missing" in output
    on.sweep(LONG[:2])
    same(on, LONG[:2], reference)


def test_the_controller_dies_and_comes_back(on: Sweeping, reference: Path) -> None:
    sweep = on.start(SHORT[:2], *on.profile(parallel=1))
    on.at_gate(SHORT[0])
    os.kill(int((on.cluster.folder / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
    assert [row["state"] for row in on.status(SHORT[:2]).values()] == ["running", "queued"]  # with Slurm down
    on.cluster.control("up")
    on.open()
    on.end(sweep)
    same(on, SHORT[:2], reference)


def test_two_sweeps_at_once_do_everything_once(on: Sweeping, reference: Path) -> None:
    on.open()
    sweeps = [on.start(SHORT[:2], *on.profile()) for _ in range(2)]
    output = [on.end(sweep) for sweep in sweeps]
    same(on, SHORT[:2], reference)
    assert sorted("submitted 2 runs" in text for text in output) == [False, True]
    assert any("2 runs are queued or being run already" in text for text in output)
    assert [len(on.attempts(run_)) for run_ in SHORT[:2]] == [1, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which root cannot write either when it is full or read-only."""
    disk = tmp_path / "results"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    with suppress(OSError):
        (disk / "ballast").unlink()
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_loses_nothing_that_was_there(on: Sweeping, reference: Path, small_disk: Path) -> None:
    run_ = LONG[0]
    sweep = on.start([run_], *on.profile())
    on.at_gate(run_)
    with suppress(OSError), (small_disk / "ballast").open("wb") as file:
        while True:
            file.write(b"\0" * 4096)
            file.flush()
    on.open()
    output = on.end(sweep, code=1)
    assert f"{run_.id}: interrupted (the disk is full: make room" in output
    assert on.status([run_])[run_.id]["state"] == "interrupted"
    (small_disk / "ballast").unlink()
    on.sweep([run_])
    same(on, [run_], reference)
    assert read_json_lines(on.at(run_).segments)[-1]["start_step"] == 5  # the last checkpoint that there was room for


def test_a_read_only_folder_is_one_clear_error(on: Sweeping, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    output = on.sweep(SHORT, *on.profile(), code=2)
    assert output.count("error:") == 1
    assert "--results" in output
    assert not list(small_disk.iterdir())
