"""What a person sees of a sweep: states, progress, totals, time left; with Slurm up, down and absent."""

import json
import os
import stat
import time
from dataclasses import asdict, replace
from pathlib import Path

import fake_runs
import pytest

from bench.cli import main
from bench.config import Execution, Run, resolve
from bench.events import RunEvent
from bench.run_dir import RunDir
from bench.states import NEVER, UNTIL_PARKED
from bench.sweep import attempts, slurm_client
from bench.sweep.claim_files import this_process
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.execute import work_through
from bench.sweep.progress_file import ProgressFile
from bench.sweep.slurm_client import SlurmSubmission

WORDS = ["--methods", "lora", "--suites", "image-text", "--seeds", "1..8"]
RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in range(1, 9)]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of every kind; Slurm has the jobs of the last three in its queue."""
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setenv("FAKE_RUNS", '{"2": "oom", "3": "error", "4": "interrupt"}')
    results = tmp_path / "results"
    work_through(RUNS[:2], Execution(), results, retry=NEVER)
    work_through(RUNS[2:3], Execution(), results, retry=UNTIL_PARKED)
    with pytest.raises(KeyboardInterrupt):
        work_through(RUNS[3:4], Execution(), results)
    folder = RunDir(results, RUNS[5].id)
    folder.path.mkdir(parents=True)
    folder.cancelled.touch()
    jobs = {f"9_{index}": {run.id: 0} for index, run in enumerate(RUNS[3:])}
    submission = SlurmSubmission(number=1, name="try-1", sweep="try", command="", submitted="2026", jobs=jobs)
    (results / "slurm" / "try-1").mkdir(parents=True)
    (results / "slurm" / "try-1" / "submission.json").write_text(submission.model_dump_json())
    slurm = tmp_path / "bin"
    slurm.mkdir()
    (slurm / "squeue").write_text(f"#!/bin/sh\ncat {slurm}/says\n")
    (slurm / "squeue").chmod(stat.S_IRWXU)
    lines = ("9_0|PENDING|BeginTime|", "9_3|PENDING|Priority|", "9_4|RUNNING|None|node7")
    (slurm / "says").write_text("".join(f"{line}\n" for line in lines))
    monkeypatch.setenv("PATH", f"{slurm}{os.pathsep}{os.environ['PATH']}")
    return results


def look(results: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["status", *WORDS, "--results", str(results), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_state_with_its_reason(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = look(results, capsys)
    assert [row["run"] for row in status["runs"]] == [run.id for run in RUNS]
    assert [(row["state"], row["note"]) for row in status["runs"]] == [
        ("done", ""),
        ("failed", "oom: no more"),
        ("parked", "error: 'whatever'"),
        ("preempted", "SIGINT"),
        ("missing", "its job 9_1 is gone; run the sweep again"),
        ("cancelled", ""),
        ("queued", "Priority"),
        ("queued", "starting"),
    ]
    assert [row["attempts"] for row in status["runs"]] == [1, 1, 2, 1, 0, 0, 0, 0]
    assert status["runs"][7]["node"] == "node7"
    assert status["totals"]["queued"] == 2
    assert sum(status["totals"].values()) == len(RUNS)
    assert status["slurm"] is None


@pytest.mark.parametrize("how", ["down", "absent"])
def test_with_slurm_down_or_absent(
    results: Path, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text("#!/bin/sh\nexit 1\n") if how == "down" else monkeypatch.setenv("PATH", str(results))
    status = look(results, capsys)
    names = ["done", "failed", "parked", "interrupted", "queued", "cancelled", "queued", "queued"]
    assert [row["state"] for row in status["runs"]] == names
    assert status["runs"][6]["note"] == "Slurm does not answer"
    assert "does not answer" in status["slurm"]


def test_a_running_run_shows_how_far_it_is(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunDir(results, RUNS[6].id)
    with acquire(folder.claim, ClaimObserver()) as lease:
        assert lease
        progress_file = ProgressFile(folder, lambda event: None, "9_3")
        progress_file(RunEvent("phase", RUNS[6].id, "train"))
        for step in range(1, 6):
            progress_file(RunEvent("step", RUNS[6].id, "vqa", step, 100, 0.5, step / 50, 32))
            time.sleep(0.02)
        progress_file.write()
        status = look(results, capsys)["runs"][6]
        assert (status["state"], status["note"], status["job"]) == ("running", "train", "9_3")
        assert (status["step"], status["steps"], status["epoch"]) == (5, 100, 0.1)
        assert 95 * 0.02 <= status["eta_seconds"] <= 95 * 0.2
        assert 32 / 0.2 < status["samples_per_second"] < 32 / 0.02
        assert status["memory_bytes"] > 2**20
        assert status["node"]
        assert main(["status", *WORDS, "--results", str(results)]) == 0
        stdout = capsys.readouterr().out
        assert "5/100" in stdout
        assert "8 runs: 1 done, 1 failed, 1 parked" in stdout


def test_the_time_left_is_shared_by_those_at_work(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(results, capsys)["eta_seconds"] is None  # nobody is at work
    record = RunDir(results, RUNS[0].id).read()
    assert record is not None
    RunDir(results, RUNS[0].id).finish(record.model_copy(update={"time": {"total_seconds": 100.0}}))
    rows = [run for run in RUNS if run.seed in (4, 5, 7, 8)]
    with (
        acquire(RunDir(results, rows[0].id).claim, ClaimObserver()),
        acquire(RunDir(results, rows[1].id).claim, ClaimObserver()),
    ):
        assert look(results, capsys)["eta_seconds"] == pytest.approx(4 * 100 / 2)


def test_watch_ends_when_everything_is_settled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in RUNS:
        fake_runs.run_one(run, Execution(), tmp_path)
    assert main(["watch", *WORDS, "--results", str(tmp_path)]) == 0
    assert "8 runs: 8 done" in capsys.readouterr().out


def test_logs_show_attempts_and_outputs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunDir(results, RUNS[2].id)
    folder.log.write_text("Traceback: whatever")
    out = results / "worker.out"
    out.write_text("\n".join(map(str, range(1000))))
    folder = RunDir(results, RUNS[2].id)
    attempts.begin(folder, this_process(), str(out.with_suffix(".err")))
    assert main(["logs", RUNS[2].id[:-4], "--results", str(results), "--lines", "3"]) == 0
    output = capsys.readouterr().out
    assert "attempt 1" in output
    assert "failed 'whatever'" in output
    assert "attempt 3" in output
    assert "no end" in output
    assert "Traceback: whatever" in output
    assert output.endswith("997\n998\n999\n")
    assert main(["logs", "lora", "--results", str(results)]) == 2
    assert "give more of the id" in capsys.readouterr().err
    assert main(["logs", "nothing", "--results", str(results)]) == 2


def test_cancel_marks_what_is_open_and_empties_the_queue(
    results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scancel = tmp_path / "bin" / "scancel"
    scancel.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/cancelled\n')
    scancel.chmod(stat.S_IRWXU)
    assert main(["cancel", *WORDS, "--results", str(results), "--run", RUNS[6].id]) == 0
    assert "1 runs cancelled" in capsys.readouterr().out
    assert (tmp_path / "cancelled").read_text() == "9_3\n"
    assert main(["cancel", *WORDS, "--results", str(results)]) == 0
    assert (tmp_path / "cancelled").read_text() == "9_0\n"  # the running job stops by itself
    capsys.readouterr()
    names = ["done", "failed", "parked", "cancelled", "cancelled", "cancelled", "cancelled", "cancelled"]
    assert [row["state"] for row in look(results, capsys)["runs"]] == names
    assert main(["cancel", *WORDS, "--results", str(results)]) == 0
    assert "nothing to cancel" in capsys.readouterr().out


def test_a_running_run_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", "0.3")

    def wait_for_stop(run: Run, execution: Execution, results: Path, report: object, hold: object) -> None:
        main(["cancel", *WORDS, "--results", str(tmp_path)])
        deadline = time.monotonic() + 30
        while not hold.stop and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt(hold.stop)

    monkeypatch.setattr("bench.run.run_one", wait_for_stop)
    work_through(RUNS[:1], Execution(), tmp_path)
    (attempt,) = attempts.read(RunDir(tmp_path, RUNS[0].id))
    assert (attempt.outcome, attempt.reason) == ("interrupted", "cancelled")


def test_retry_lets_failures_be_tried_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["retry", *WORDS, "--results", str(results)]
    assert main(words) == 2
    assert "--failed" in capsys.readouterr().err
    assert main([*words, "--failed"]) == 0
    assert "2 runs to try again" in capsys.readouterr().out
    assert (RunDir(results, RUNS[2].id).path / "attempt-2" / "attempts" / "1.json").exists()
    assert slurm_client.submitted_jobs(results)
    assert main([*words, "--run", RUNS[5].id]) == 0
    assert "1 runs to try again" in capsys.readouterr().out
    assert main([*words, "--failed"]) == 0
    assert "nothing to try again" in capsys.readouterr().out


@pytest.mark.parametrize("item", ["elsewhere", "elsewhere=/some/folder"])
def test_the_data_root_is_named_as_for_the_sweep(
    item: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs on another data root have other ids; its folder need not be there to look at them."""
    words = ["--methods", "lora", "--suites", "image-text", "--data", item, "--results", str(tmp_path)]
    monkeypatch.setenv("FAKE_RUNS", '{"1": "oom"}')
    run = resolve("mini-bart", "lora", "image-text", data="elsewhere")
    for failed in (run, RUNS[0]):
        fake_runs.run_one(failed, Execution(), tmp_path)
    assert main(["status", *words, "--format", "json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)["runs"]] == [run.id]
    assert main(["watch", *words]) == 0
    assert main(["logs", "lora", "--data", item, "--results", str(tmp_path)]) == 0
    assert main(["cancel", *words]) == 0
    assert "nothing to cancel" in capsys.readouterr().out
    assert main(["retry", *words, "--failed"]) == 0
    assert f"{run.id}: will be tried again" in capsys.readouterr().out


def test_one_look_says_for_how_long_nothing_was_heard_of_an_owner_elsewhere(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunDir(results, RUNS[6].id)
    folder.claim.mkdir(parents=True)
    folder.progress.write_text('{"phase": "train", "step": 5, "steps": 10, "steps_per_second": 1.0}')
    path = folder.claim / "1"
    path.write_text(json.dumps(asdict(replace(this_process(), host="elsewhere"))))
    os.utime(path, (time.time() - 600, time.time() - 600))
    row = look(results, capsys)["runs"][6]
    assert (row["state"], row["note"], row["eta_seconds"]) == ("running", "not heard of for 10 min", None)
