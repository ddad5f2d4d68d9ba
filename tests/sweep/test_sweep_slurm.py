"""Submission to Slurm and what is said of it, without a Slurm: scripts, requests, arrays, answers that are played."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from played_slurm import calls, in_queue, make, submitter, tried

from bench.cli import main
from bench.config import Execution, resolve
from bench.errors import UsageError
from bench.run_dir import RunDir
from bench.sweep import slurm_client
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.resource_estimate import gpus, memory_gb
from bench.sweep.slurm_lost import lost_runs
from bench.sweep.slurm_monitor import SlurmMonitor
from bench.sweep.worker import Pack


def submission_scripts(results: Path) -> list[str]:
    """The scripts of the array and of the report job of the only submission, in this order."""
    return [path.read_text() for path in sorted(slurm_client.submissions_folder(results).glob("*/*.sh"))]


def test_the_script_asks_for_what_the_profile_and_the_runs_say(tmp_path: Path) -> None:
    runs = [make(seed) for seed in range(1, 8)]
    fields = {"array_parallelism": 3, "pack": 2, "signal_seconds": 90, "memory_gb": 7, "cpus": 2, "max_requeues": 4}
    script = submitter(tmp_path, **fields).script(runs)
    for line in ("--array=0-3%3", "--mem=7168M", "--time=60", "--signal=USR2@90", "--cpus-per-task=2", "--requeue"):
        assert f"#SBATCH {line}\n" in script
    assert 'scontrol requeue "$SLURM_JOB_ID"' in script
    assert "-lt 4 ]" in script
    assert "--gpus" not in script
    assert "scontrol requeue" not in submitter(tmp_path, requeue=False).script(runs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "restarts", "asks"),
    [(0, 0, False), (1, 0, False), (75, 0, True), (75, 3, False), (137, 2, True), (143, 0, False), (139, 0, True)],
)
def test_a_job_that_was_stopped_or_killed_asks_to_be_started_again(
    tmp_path: Path, slurm: Path, code: int, restarts: int, asks: bool
) -> None:
    """The end of the script is run by a shell after a command that ends with such a code."""
    script = submitter(tmp_path, max_requeues=3).script([make()])
    end = script[script.index("code=$?") :]
    (tmp_path / "script").write_text(f"(exit {code})\n{end}")
    done = os.waitstatus_to_exitcode(
        os.system(f"SLURM_JOB_ID=5 SLURM_RESTART_COUNT={restarts} bash {tmp_path / 'script'}")
    )
    assert done == code
    assert ((slurm / "calls").exists() and calls(slurm, "scontrol") == ["scontrol requeue 5"]) is asks


def test_requests_follow_from_the_runs_where_the_profile_says_nothing(tmp_path: Path) -> None:
    small, large = make(), resolve("bart-base", "full", "image-text", data="official")
    auto, cpu = Execution(), Execution(device="cpu")
    assert (gpus([small], auto), gpus([small, large], auto), gpus([large], cpu)) == (0, 1, 0)
    assert memory_gb([small], auto) == 2  # measured: 0.5 GB
    assert 3 <= memory_gb([large], auto) <= 8
    assert memory_gb([large], cpu) > memory_gb([large], auto)
    assert memory_gb([small, large], cpu) == memory_gb([large], cpu)
    script = submitter(tmp_path).script([small, large])
    assert f"#SBATCH --mem={memory_gb([large], auto)}G\n" in script
    assert "#SBATCH --gpus-per-node=1\n" in script
    assert "--gpus" not in submitter(tmp_path, gpus=0).script([large])


def test_one_array_is_sent_once(tmp_path: Path, slurm: Path) -> None:
    runs = [make(seed) for seed in range(1, 6)]
    results = tmp_path / "results"
    (sent,) = submitter(results, pack=2).submit(runs)
    assert [list(packed) for packed in sent.jobs.values()] == [
        [run.id for run in runs[:2]],
        [run.id for run in runs[2:4]],
        [runs[4].id],
    ]
    assert list(sent.jobs) == ["77_0", "77_1", "77_2"]
    assert len(calls(slurm, "sbatch")) == 1
    in_queue(slurm, *((job, "PENDING", "Priority", "") for job in sent.jobs))
    assert submitter(results).submit(runs) == []
    (more,) = submitter(results).submit([*runs, make(9)])
    assert [list(packed) for packed in more.jobs.values()] == [[make(9).id]]
    assert f"--name={sent.name}" in calls(slurm, "squeue")[-1]


def test_jobs_execute_command_lines_on_plain_data(tmp_path: Path, slurm: Path) -> None:
    runs = [make(seed) for seed in range(1, 4)]
    report = ("sweep", "--set", "a b=1", "--collect")
    execution = Execution(device="cpu", data={"mini": tmp_path})
    (sent,) = replace(submitter(tmp_path / "results", execution, pack=2), report_arguments=report).submit(runs)
    folder = slurm_client.submissions_folder(tmp_path / "results") / sent.name
    packs = [Pack.read(folder / f"pack-{index}.json") for index in (0, 1)]
    assert [[run.id for run in pack.runs] for pack in packs] == [[run.id for run in runs[:2]], [runs[2].id]]
    share = execution.model_copy(update={"share": 1})  # the CPUs of the profile
    assert all(pack.execution == share for pack in packs)
    assert {(pack.results, pack.retry) for pack in packs} == {(tmp_path / "results", "until-parked")}
    scripts = submission_scripts(tmp_path / "results")
    assert f"-m bench work --pack {folder}/pack-$SLURM_ARRAY_TASK_ID.json\n" in scripts[0]
    assert "-m bench sweep --set 'a b=1' --collect\n" in scripts[1]
    assert not list(folder.glob("*.pkl"))


def test_what_is_done_or_being_run_is_not_sent(tmp_path: Path, slurm: Path) -> None:
    with acquire(RunDir(tmp_path, make(1).id).claim, ClaimObserver()) as lease:
        assert lease
        (sent,) = submitter(tmp_path).submit([make(1), make(2)])
    assert [list(packed) for packed in sent.jobs.values()] == [[make(2).id]]


def test_more_runs_than_an_array_holds_are_several(tmp_path: Path, slurm: Path) -> None:
    (slurm / "scontrol.says").write_text("MaxArraySize            = 3\n")
    sent = submitter(tmp_path, pack=2).submit([make(seed) for seed in range(1, 9)])
    assert [len(submission.jobs) for submission in sent] == [3, 1]


def test_a_refusal_is_one_line(tmp_path: Path, slurm: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: main' >&2\nexit 1\n")
    with pytest.raises(UsageError, match="invalid partition specified: main") as error:
        submitter(tmp_path).submit([make()])
    assert "\n" not in str(error.value)


def test_without_slurm_one_line_says_what_is_missing_and_what_to_try(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no partition"):
        slurm_client.require()
    (slurm / "sinfo.says").write_text("main up\n")
    slurm_client.require()
    (slurm / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UsageError, match=r"does not answer.*slurm/dev-cluster up"):
        slurm_client.require()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"no sbatch.*slurm/dev-cluster up.*--executor local") as error:
        slurm_client.require()
    assert "\n" not in str(error.value)


def test_runs_whose_jobs_died_are_sent_again_and_cancelled_ones_are_not(tmp_path: Path, slurm: Path) -> None:
    runs = [make(seed) for seed in range(1, 7)]
    tried(tmp_path, runs[5])
    submitter(tmp_path).submit(runs)
    tried(tmp_path, runs[0])  # killed
    tried(tmp_path, runs[1], "interrupted", "SIGTERM")  # by a person, or by Slurm
    tried(tmp_path, runs[2], "interrupted", "SIGTERM")
    tried(tmp_path, runs[3], "interrupted", "SIGUSR2")  # runs[4] never began, nor did runs[5] since it was sent
    submitted = slurm_client.submitted_jobs(tmp_path)
    assert lost_runs(tmp_path, runs, submitted) == [runs[0], runs[3]]
    (slurm / "sacct.says").write_text("77_0|NODE_FAIL\n77_1|PREEMPTED\n77_2|CANCELLED by 0\n77_3|FAILED\n")
    assert lost_runs(tmp_path, runs, submitted) == [runs[0], runs[1], runs[3]]
    (slurm / "sacct.says").write_text("77_0|CANCELLED by 1000\n")
    assert lost_runs(tmp_path, runs, submitted) == [runs[3]]
    (slurm / "sacct.says").write_text("77_[4-5%2]|PENDING\n")  # and yet they are not in the queue
    assert lost_runs(tmp_path, runs, submitted) == [runs[0], runs[3], runs[4], runs[5]]
    (slurm / "sacct.says").write_text("77_4|FAILED|1:0\n77_5|CANCELLED by 0|0:0\n")
    assert lost_runs(tmp_path, runs, submitted) == [runs[0], runs[3]]


def test_a_sweep_that_looks_on_ends_when_nothing_is_left_to_wait_for(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.sweep.slurm_monitor.POLL_SECONDS", 0.01)
    monkeypatch.setattr("bench.sweep.slurm_monitor.QUEUE_SECONDS", 0.02)
    runs = [make(seed) for seed in (1, 2)]
    sends = submitter(tmp_path)
    sent = sends.submit(runs)
    tried(tmp_path, runs[0])  # killed; the other's job has vanished without a trace
    notes: list[str] = []
    SlurmMonitor(sends, runs, sent, lambda event: notes.append(event.message)).wait()
    assert [note for note in notes if "submitting" in note] == ["the jobs of 1 runs have died; submitting these again"]
    assert [list(submission.jobs.values()) for submission in slurm_client.submissions(tmp_path)][1] == [{runs[0].id: 1}]


def test_broken_notes_of_submissions_are_passed_over(tmp_path: Path, slurm: Path) -> None:
    submitter(tmp_path).submit([make()])
    (slurm_client.submissions_folder(tmp_path) / "torn").mkdir()
    (slurm_client.submissions_folder(tmp_path) / "torn" / "submission.json").write_text(json.dumps({"name": 3})[:-1])
    assert list(slurm_client.submitted_jobs(tmp_path)) == [make().id]


def test_a_slurm_that_does_not_answer_is_not_an_empty_queue(tmp_path: Path, slurm: Path) -> None:
    sends = submitter(tmp_path)
    sends.submit([make()])
    (slurm / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert slurm_client.queued_jobs(slurm_client.submissions(tmp_path)) is None
    with pytest.raises(UsageError, match="does not answer"):
        sends.submit([make()])


@pytest.mark.parametrize("died", [True, False], ids=["a job has died", "nothing has died"])
def test_the_collecting_job_submits_what_has_died_or_writes_the_report(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, died: bool
) -> None:
    """The job that a collecting job submits in its turn has the same command line, with absolute paths."""
    monkeypatch.chdir(tmp_path)
    commands: list[str] = []
    monkeypatch.setattr("bench.report.write", lambda *rest, command, **more: commands.append(command) or [])
    (slurm / "sinfo.says").write_text("main up\n")
    (tmp_path / "profile.toml").write_text("partition = 'main'\ntime_minutes = 60\n")
    words = ["sweep", "--methods", "lora", "--suites", "image-text", "--executor", "slurm", "--profile", "profile.toml"]
    run, results = make(), tmp_path / "results"
    tried(results, run, None if died else "interrupted", "" if died else "SIGTERM")
    assert main([*words, "--collect"]) == 0
    assert (len(commands), len(slurm_client.submissions(results))) == ((0, 1) if died else (1, 0))
    if not died:
        assert commands == [shlex.join(["python", "-m", "bench", *words])]
        return
    line = next(line for line in submission_scripts(results)[1].splitlines() if "--collect" in line)
    collect = shlex.split(line)[shlex.split(line).index("bench") + 1 :]
    absolute = ["--results", str(results), "--reports", str(tmp_path / "reports")]
    absolute += ["--profile", str(tmp_path / "profile.toml")]
    assert collect == [*words, *absolute, "--collect"]
    tried(results, run, "interrupted", "SIGTERM")
    assert main(collect) == 0
    assert commands == [shlex.join(["python", "-m", "bench", *words, *absolute])]


def test_the_collecting_job_names_runs_of_other_data_and_does_not_submit_them(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.report.write", lambda *rest, **more: [])
    (slurm / "sinfo.says").write_text("main up\n")
    (tmp_path / "profile.toml").write_text("partition = 'main'\ntime_minutes = 60\n")
    run, results = make(), tmp_path / "results"
    record = fake_runs.run_one(run, Execution(), results)
    RunDir(results, run.id).finish(record.model_copy(update={"fingerprints": {"method": {"lora": "of another time"}}}))
    grid = ["sweep", "--methods", "lora", "--suites", "image-text"]
    assert main([*grid, "--executor", "slurm", "--profile", "profile.toml", "--collect"]) == 0
    assert f"warning: {run.id} is stale, it is marked" in capsys.readouterr().err
    assert not slurm_client.submissions(results)


def test_collecting_belongs_to_slurm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--collect"]) == 2
    assert "--executor slurm" in capsys.readouterr().err
