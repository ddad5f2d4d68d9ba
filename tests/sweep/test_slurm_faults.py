"""What a sweep does about a Slurm that loses, holds or refuses jobs, and about drivers that die; Slurm is played."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from played_slurm import calls, in_queue, make, submitter, tried

from bench.cli import main
from bench.config import Run
from bench.run_dir import RunDir
from bench.sweep import attempts, claim_files, slurm_client, slurm_intentions, slurm_lost, slurm_monitor, slurm_waiting
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.slurm_client import QueuedJob, SlurmRefusal, SlurmUnavailable
from bench.sweep.slurm_lost import BACK_OFF_SECONDS, fates
from bench.sweep.slurm_monitor import SlurmMonitor
from bench.sweep.slurm_reasons import explain
from bench.sweep.worker import output_file

STATUS = ["--methods", "lora", "--suites", "image-text", "--format", "json"]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the queue follow each other at once."""
    for name in ("POLL_SECONDS", "QUEUE_SECONDS", "REFUSED_SECONDS"):
        monkeypatch.setattr(slurm_monitor, name, 0.01)


def claimed_elsewhere(results: Path, run: Run, job: str | None, monkeypatch: pytest.MonkeyPatch, lease: float) -> Path:
    """Let a process of another host claim a run and never be heard of again; return the file of its claim."""
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", str(lease))
    with monkeypatch.context() as there:
        there.setattr(claim_files, "host", lambda: "elsewhere")
        there.setenv("SLURM_JOB_ID", job or "")
        held = acquire(RunDir(results, run.id).claim, ClaimObserver())
        assert held
        tried(results, run)
    return held.path


def age(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        ("PREEMPTED|0:0", "lost"),
        ("NODE_FAIL|1:0", "lost"),
        ("BOOT_FAIL|0:0", "lost"),
        ("FAILED|0:53", "lost"),  # Slurm's code of a job that it could not launch
        ("FAILED|137:0", "lost"),  # killed from outside
        ("TIMEOUT|0:0", "lost"),
        ("PENDING|0:0", "lost"),  # and not in the queue: the controller has forgotten it
        ("FAILED|1:0", "broken"),  # the set-up has failed
        ("CANCELLED by 0|0:0", "stopped"),
        ("", "unclear"),
    ],
)
def test_a_job_that_ends_before_its_first_attempt_is_not_forgotten(
    tmp_path: Path, slurm: Path, ended: str, kind: str
) -> None:
    submitter(tmp_path).submit([make()])
    (slurm / "sacct.says").write_text(f"77_0|{ended}\n" if ended else "")
    fate = fates(tmp_path, [make()], slurm_client.submitted_jobs(tmp_path))[make().id]
    assert fate.kind == kind
    assert "77_0" in fate.text


def test_what_is_lost_again_and_again_is_given_up_with_an_explanation(tmp_path: Path, slurm: Path, fast: None) -> None:
    (slurm / "sacct.says").write_text("".join(f"{77 + i}_0|NODE_FAIL|1:0\n" for i in range(9)))
    sends = submitter(tmp_path)
    lines = SlurmMonitor(sends, [make()], sends.submit([make()]), lambda event: None).wait()
    assert len(calls(slurm, "sbatch")) == 1 + len(BACK_OFF_SECONDS)
    assert "NODE_FAIL" in lines[0]
    assert "given up" in lines[0]
    scripts = [path.read_text() for path in sorted(tmp_path.glob("slurm/*/array.sh"), key=lambda p: p.stat().st_mtime)]
    begins = [int(match[1]) if (match := re.search(r"--begin=now\+(\d+)", text)) else 0 for text in scripts]
    assert begins == [0, *BACK_OFF_SECONDS]
    SlurmMonitor(sends, [make()], [], lambda event: None).wait()  # another driver counts on
    assert len(calls(slurm, "sbatch")) == 1 + len(BACK_OFF_SECONDS)
    assert len(sends.submit([make()])) == 1  # somebody types the sweep again


def test_a_run_with_a_newer_checkpoint_is_not_given_up(tmp_path: Path, slurm: Path) -> None:
    sends, run = submitter(tmp_path), make()
    sends.submit([run])
    for number in range(6):
        sends.submit([run], automatic=True)
        (slurm / "squeue.says").write_text("")
        tried(tmp_path, run)
        if number % 2:
            RunDir(tmp_path, run.id).checkpoint.touch()
        assert slurm_lost.automatic_submissions(tmp_path, [run.id])[run.id] <= 1 + (number + 1) % 2
    tried(tmp_path, run)


def test_the_driver_sends_what_a_dead_owner_on_another_host_leaves(
    tmp_path: Path, slurm: Path, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``requeue = false``: the worker was killed, its job is gone, nobody on this host can ask for its process."""
    sends = submitter(tmp_path, requeue=False)
    sent = sends.submit([make()])
    claimed_elsewhere(tmp_path, make(), "77", monkeypatch, lease=2)
    (slurm / "sacct.says").write_text("77_0|NODE_FAIL|1:0\n78_0|CANCELLED by 0|0:0\n")
    SlurmMonitor(sends, [make()], sent, lambda event: None).wait()
    assert [list(sub.jobs.values()) for sub in slurm_client.submissions(tmp_path)] == [
        [{make().id: 0}],
        [{make().id: 1}],
    ]


def test_the_collecting_job_waits_until_the_dead_are_dead(
    tmp_path: Path, slurm: Path, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = submitter(tmp_path)
    sends.submit([make()])
    claimed_elsewhere(tmp_path, make(), "77", monkeypatch, lease=0.2)
    assert slurm_monitor.collect(sends, [make()], lambda event: None)
    assert len(calls(slurm, "sbatch")) == 2


@pytest.mark.parametrize(
    ("beat", "job", "queued", "state", "note"),
    [
        (1, "77_0", "", "running", "set-up"),
        (600, "77_0", "", "interrupted", "killed"),
        (600, "77_0", "77_0|PENDING|BeginTime|", "preempted", "killed"),
        (600, "77_0", "77_0|RUNNING|None|node1", "running", "not heard of for 10 min"),
        (600, None, "", "running", "not heard of for 10 min"),  # of another executor on another host
        (-3600, "77_0", "", "running", "set-up"),  # its clock is ahead
    ],
)
def test_one_look_judges_by_what_is_on_disk(
    tmp_path: Path,
    slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    beat: float,
    job: str | None,
    queued: str,
    state: str,
    note: str,
) -> None:
    submitter(tmp_path).submit([make()])
    file = claimed_elsewhere(tmp_path, make(), job, monkeypatch, lease=90)
    age(file, beat)
    (slurm / "squeue.says").write_text(f"{queued}\n")
    assert main(["status", *STATUS, "--results", str(tmp_path)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["state"], row["note"]) == (state, note)
    assert row["eta_seconds"] is None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".clock")]


@pytest.mark.parametrize("where", ["squeue", "sacct", "attempts", "nowhere", "nowhere, long ago", "silence"])
def test_a_driver_that_dies_in_sbatch_sends_nothing_twice(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    runs = [make(1), make(2)]
    with monkeypatch.context() as dying:
        dying.setattr(slurm_client, "sbatch", lambda script: os.kill(os.getpid(), 2))  # a KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            submitter(tmp_path).submit(runs)
    (intention,) = slurm_client.submissions(tmp_path)
    assert not intention.answered
    if where == "squeue":
        in_queue(slurm, ("41_0", "PENDING", "Priority", ""), ("41_1", "RUNNING", "None", "node1"))
    if where == "sacct":
        (slurm / "sacct.says").write_text("41_0\n41_1\n")
    if where == "attempts":
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "41")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
        tried(tmp_path, runs[1], "interrupted", "SIGTERM")
    if where == "nowhere, long ago":
        age(slurm_client.submission_file(tmp_path, intention.name), slurm_intentions.IN_FLIGHT_SECONDS + 1)
    if where == "silence":
        (slurm / "squeue").write_text("#!/bin/sh\nexit 1\n")
        with pytest.raises(SlurmUnavailable):
            submitter(tmp_path).submit(runs)
        return
    sent = submitter(tmp_path).submit(runs)
    (first, *_) = slurm_client.submissions(tmp_path)
    if where in ("squeue", "sacct", "attempts"):
        assert list(first.jobs) == ["41_0", "41_1"]
    assert [list(sub.jobs) for sub in sent] == {"squeue": [], "nowhere": []}.get(where, [["77_0", "77_1"]])


@pytest.mark.parametrize("fault", ["Invalid dependency specification", "QOSMaxSubmitJobPerUserLimit"])
def test_an_array_whose_report_job_is_refused_is_sent_once(tmp_path: Path, slurm: Path, fault: str) -> None:
    text = (slurm / "sbatch").read_text()
    refuse = f'#!/bin/sh\ngrep -q -- --dependency "$1" && {{ echo "sbatch: error: {fault}" >&2; exit 1; }}\n'
    (slurm / "sbatch").write_text(text.replace("#!/bin/sh\n", refuse))
    sends = submitter(tmp_path)
    sends = type(sends)(**{**vars(sends), "report_arguments": ("sweep", "--collect")})
    (sent,) = sends.submit([make()])
    assert fault in str(sent.report_fault)
    in_queue(slurm, ("77_0", "PENDING", "Priority", ""))
    assert sends.submit([make()]) == []
    assert slurm_client.submissions(tmp_path) == [sent]


def test_what_slurm_takes_no_more_of_is_sent_when_there_is_room(tmp_path: Path, slurm: Path, fast: None) -> None:
    runs = [make(seed) for seed in range(1, 8)]
    (slurm / "most").write_text("4")
    (slurm / "refusal").write_text("QOSMaxSubmitJobPerUserLimit")
    sends = submitter(tmp_path)
    sent = sends.submit(runs)
    assert [len(submission.jobs) for submission in sent] == [3, 3, 1]
    (slurm / "most").write_text("0")
    with pytest.raises(SlurmRefusal, match="QOSMaxSubmit"):
        submitter(tmp_path / "other").submit(runs)
    assert slurm_client.submissions(tmp_path / "other") == []
    notes: list[str] = []
    lines = SlurmMonitor(submitter(tmp_path / "other"), runs, [], lambda event: notes.append(event.message)).wait()
    assert len(lines) == len(runs)
    assert "a limit of your account" in notes[0]


def test_held_jobs_are_named_and_those_that_slurm_holds_are_released(slurm: Path) -> None:
    notes: list[str] = []
    clock = [0.0]
    waiting = slurm_waiting.WaitingJobs(lambda event: notes.append(event.message), lambda: clock[0])
    jobs = [
        QueuedJob("7_0", "PENDING", "launch failed requeued held", ""),
        QueuedJob("7_1", "PENDING", "JobHeldUser", ""),
        QueuedJob("7_2", "PENDING", "Priority", ""),
        QueuedJob("7_3", "PENDING", "Nodes required for job are DOWN, DRAINED or reserved", ""),
        QueuedJob("7_4", "PENDING", "QOSMaxSubmitJobPerUserLimit", ""),
    ]
    for _ in range(100):
        waiting.look(jobs)
        clock[0] += 10
    assert calls(slurm, "scontrol") == ["scontrol release 7_0"] * len(slurm_waiting.RELEASE_SECONDS)
    assert [note for note in notes if "JobHeldUser" in note] == [
        "1 jobs wait: JobHeldUser; they are held: scontrol release 7_1"
    ] * 2  # at the beginning, and after ten minutes
    assert not [note for note in notes if "Priority" in note]
    assert any("DRAINED" in note and "sinfo -R" in note for note in notes)
    assert any("QOSMaxSubmit" in note and "limit of your account" in note for note in notes)


@pytest.mark.parametrize("reason", ["None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"])
def test_what_passes_by_itself_is_no_news(reason: str) -> None:
    assert explain(reason) is None


def test_sbatch_hears_nothing_of_the_job_around_it(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_job = ("SLURM_CPU_BIND", "SLURM_GPUS_PER_TASK", "SLURM_MEM_PER_CPU", "SLURM_RESTART_COUNT", "SLURM_JOB_ID")
    of_a_shell = (
        "SBATCH_PARTITION",
        "SQUEUE_FORMAT",
        "SUBMITIT_FOLDER",
        "SUBMITIT_EXECUTOR",
        "SUBMITIT_PREEMPT_SIGNAL",
    )
    for name in (*of_a_job, *of_a_shell):
        monkeypatch.setenv(name, "5")
    monkeypatch.setenv("SLURM_CONF", "/etc/other.conf")
    submitter(tmp_path).submit([make()])
    seen = dict(line.split("=", 1) for line in (slurm / "environment").read_text().splitlines() if "=" in line)
    assert [name for name in seen if name.startswith(("SLURM", "SBATCH", "SQUEUE", "SUBMITIT"))] == ["SLURM_CONF"]
    assert seen["SLURM_CONF"] == "/etc/other.conf"


def test_a_configuration_that_others_may_write_is_not_loaded(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's commands load the libraries that it names, and submission.json says where it is."""
    conf = tmp_path / "slurm.conf"
    conf.touch(mode=0o600)
    monkeypatch.setenv("SLURM_CONF", str(conf))
    submitter(tmp_path / "results").submit([make()])
    monkeypatch.delenv("SLURM_CONF")
    submissions = slurm_client.submissions(tmp_path / "results")
    assert slurm_client.queued_jobs(submissions) == {}
    conf.chmod(0o666)
    before = calls(slurm, "squeue")
    assert slurm_client.queued_jobs(submissions) is None
    assert calls(slurm, "squeue") == before


def test_stray_variables_name_neither_a_log_nor_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    stray = {
        "SUBMITIT_EXECUTOR": "slurm",
        "SUBMITIT_FOLDER": "/nowhere",
        "SLURM_JOB_ID": "5",
        "SLURM_ARRAY_JOB_ID": "4",
    }
    for name, value in stray.items():
        monkeypatch.setenv(name, value)
    assert output_file(tmp_path) is None
    assert claim_files.this_process().job == "5"


def test_logs_and_names_keep_what_slurm_would_replace(tmp_path: Path, slurm: Path) -> None:
    results = tmp_path / "100% of %j and %a"
    sends = submitter(results)
    (sent,) = type(sends)(**{**vars(sends), "sweep": "two words, (a/b)"}).submit([make()])
    assert re.fullmatch(r"two-words-a-b--\d{4}T\d{6}-\w{6}", sent.name)
    (script,) = results.glob("slurm/*/array.sh")
    place = f"{tmp_path}/100%% of %%j and %%a/slurm/{sent.name}/%A_%a_0_log"
    assert f"#SBATCH --output='{place}.out'\n#SBATCH" in script.read_text()
    assert f"'--error={place}.err'" in script.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"bin", results.name}


STATES = (
    "",
    "PENDING",
    "RUNNING",
    "COMPLETED",
    "FAILED",
    "CANCELLED by 7",
    "PREEMPTED",
    "NODE_FAIL",
    "BOOT_FAIL",
    "TIMEOUT",
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(
        st.tuples(
            st.sampled_from(STATES),
            st.sampled_from(["0:0", "1:0", "137:0", "0:53", "odd", ""]),
            st.sampled_from(["none", "killed", "SIGTERM", "SIGUSR2", "failed"]),
            st.sampled_from(["", "PENDING|Priority", "PENDING|JobHeldUser", "RUNNING|None"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_slurm_says_nothing_is_sent_twice_or_for_ever(
    tmp_path_factory: pytest.TempPathFactory, slurm: Path, drawn: list[tuple[str, str, str, str]]
) -> None:
    """Random states of jobs: what is queued, was stopped or failed is left alone; the rest is sent a bounded number of
    times."""
    results = tmp_path_factory.mktemp("results")
    runs = [make(seed) for seed in range(1, len(drawn) + 1)]
    (slurm / "calls").write_text("")
    in_queue(slurm)
    sends = submitter(results)
    sends.submit(runs)
    for run, (_, _, attempt, _) in zip(runs, drawn, strict=True):
        if attempt != "none":
            outcome = {"killed": None, "failed": "failed"}.get(attempt, "interrupted")
            tried(results, run, outcome, attempt if outcome else "")
    queue = {f"77_{i}": row[3] for i, row in enumerate(drawn) if row[3]}
    in_queue(slurm, *((job, *text.split("|"), "") for job, text in queue.items()))
    for _ in range(2 + len(BACK_OFF_SECONDS)):
        lines = [f"{77 + n}_{i}|{row[0]}|{row[1]}\n" for n in range(9) for i, row in enumerate(drawn) if row[0]]
        (slurm / "sacct.says").write_text("".join(lines))
        ids = slurm_client.submitted_jobs(results)
        left = [run for run in runs if ids[run.id].id not in queue]
        verdicts = fates(results, left, ids)
        hopeless = slurm_lost.hopeless(results, [run.id for run in left])
        lost = [run for run in left if verdicts[run.id].kind == "lost" and run.id not in hopeless]
        sent = sends.submit(lost, automatic=True) if lost else []
        assert {run for sub in sent for pack in sub.jobs.values() for run in pack} == {run.id for run in lost}
    assert not lost
    for run, (state, _, attempt, queued) in zip(runs, drawn, strict=True):
        times = sum(run.id in pack for sub in slurm_client.submissions(results) for pack in sub.jobs.values())
        left_alone = queued or state.startswith("CANCELLED") or attempt == "failed"
        assert times == 1 if left_alone else times <= 1 + len(BACK_OFF_SECONDS)
        assert len(attempts.read(RunDir(results, run.id))) == (attempt != "none")
