"""What people do to a results folder besides running sweeps: list, measure, remove, merge, export."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_runs
import pandas as pd
import pytest

from bench.cli import VERBS, main
from bench.config import Execution, resolve
from bench.run_dir import RunDir
from bench.sweep.claims import ClaimObserver, acquire
from bench.sweep.leftovers import MERGED
from bench.sweep.spec import Sweep
from bench.sweep.started import keep, started_sweeps
from methods.core.errors import MethodError

RUNS = [resolve("mini-bart", "lora", "image-text", seed=seed) for seed in (1, 2, 3)]


def sweep(name: str, *seeds: int) -> Sweep:
    return Sweep(name=name, methods=("lora",), suites=("image-text",), seeds=seeds)  # type: ignore[call-arg]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three finished runs: of two sweeps that share one, and of none."""
    results = tmp_path / "results"
    for run in RUNS:
        fake_runs.run_one(run, Execution(), results)
    keep(results, sweep("first", 1, 2), {}, "inline", "the command")
    keep(results, sweep("second", 2, 9), {}, "inline", "x")
    return results


def listed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*words, "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def names(results: Path) -> set[str]:
    return {path.name for path in (results / "runs").iterdir()}


def test_list_has_every_sweep_and_what_belongs_to_none(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(results, sweep("first", 7), {}, "inline", "x")
    (results / "sweeps" / "torn.json").write_text("{")
    rows = {row["sweep"]: row for row in listed(capsys, "list", "--results", str(results))}
    assert list(rows) == ["first", "first@2", "second", "torn", "(no sweep)"]
    assert rows["first"]["states"] == {"done": 2} and rows["second"]["states"] == {"done": 1, "missing": 1}
    assert rows["first"]["what"] == "lora, mini-bart, image-text, seeds 1 2" and rows["first"]["bytes"] > 1000
    assert rows["first"]["command"] == "the command" and "torn.json" in rows["torn"]["note"]
    assert rows["(no sweep)"]["runs"] == 1
    assert main(["list", "--results", str(results)]) == 0
    assert "1 done, 1 missing" in capsys.readouterr().out


def test_du_says_what_the_bytes_are_for(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunDir(results, RUNS[1].id)
    folder.checkpoint.write_bytes(b"x" * 5000)
    (folder.path / "attempt-1").mkdir()
    (folder.path / "attempt-1" / "weights.safetensors").write_bytes(b"x" * 700)
    (folder.path / "loop").symlink_to(folder.path)
    rows = listed(capsys, "du", "--results", str(results))
    assert rows[0]["run"] == RUNS[1].id
    assert (rows[0]["checkpoints"], rows[0]["put aside"], rows[0]["weights"]) == (5000, 700, len(fake_runs.WEIGHTS))
    assert main(["du", "--results", str(results), "--largest", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_status_all_has_every_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "runs" / "of a person").mkdir()
    states = {row["run"]: row["state"] for row in listed(capsys, "status", "--all", "--results", str(results))["runs"]}
    planned = resolve("mini-bart", "lora", "image-text", seed=9).id
    assert states == {run.id: "done" for run in RUNS} | {planned: "missing", "of a person": "missing"}


def test_rm_removes_a_sweep_but_not_what_others_have(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(results, sweep("first", 1), {}, "inline", "x")
    keep(results, sweep("first", 3), {}, "inline", "x")
    assert main(["rm", "first@2", "--results", str(results), "--yes"]) == 0
    assert names(results) == {run.id for run in RUNS}
    assert [plan.key for plan in started_sweeps(results, "first")] == ["first", "first@3"]  # no gap hides the rest
    assert main(["rm", "first", "--results", str(results), "--yes"]) == 0
    assert names(results) == {run.id for run in RUNS[1:]}
    assert "1 runs of first stay" in capsys.readouterr().err
    assert main(["rm", RUNS[2].id, "--results", str(results), "--yes"]) == 0
    assert names(results) == {RUNS[1].id}
    assert sorted(path.name for path in results.iterdir()) == ["ledger.txt", "runs", "sweeps"]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 1), ("no", 1)])
def test_rm_asks(answer: str, code: int, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert main(["rm", RUNS[0].id, "--results", str(results)]) == code
    assert (RUNS[0].id in names(results)) == bool(code)


def test_rm_asks_nobody_who_is_not_there(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(["rm", RUNS[0].id, "--results", str(results)]) == 2
    assert "--yes" in capsys.readouterr().err and len(names(results)) == 3


def test_rm_refuses_what_runs_and_what_is_no_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "runs" / "notes").mkdir()
    with acquire(RunDir(results, RUNS[0].id).claim, ClaimObserver()) as lease:
        assert lease is not None
        words = ["rm", RUNS[0].id, RUNS[1].id, "notes", "--results", str(results), "--yes"]
        assert main(words) == 1
    assert names(results) == {RUNS[0].id, RUNS[2].id, "notes"}
    error = capsys.readouterr().err
    assert "a process works on this run" in error and "notes: is no run" in error
    assert main(["rm", "nothing", "--results", str(results), "--yes"]) == 2


def test_rm_of_a_link_leaves_what_it_leads_to(results: Path, tmp_path: Path) -> None:
    shutil.move(results / "runs" / RUNS[0].id, tmp_path / "elsewhere")
    (results / "runs" / RUNS[0].id).symlink_to(tmp_path / "elsewhere")
    assert main(["rm", RUNS[0].id, "--results", str(results), "--yes"]) == 0
    assert RUNS[0].id not in names(results) and (tmp_path / "elsewhere" / "record.json").exists()


def test_merge_copies_what_is_new_and_names_conflicts(results: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other"
    for run in (*RUNS[:2], resolve("mini-bart", "ia3", "image-text")):
        fake_runs.run_one(run, Execution(), other)
    shutil.rmtree(other / "runs" / RUNS[0].id)
    shutil.copytree(results / "runs" / RUNS[0].id, other / "runs" / RUNS[0].id)
    theirs = RunDir(other, RUNS[1].id).record
    theirs.write_text(theirs.read_text().replace("50.0", "60.0"))
    torn = RunDir(other, RUNS[2].id)
    torn.path.mkdir()
    torn.record.write_text("{")
    new = RunDir(other, resolve("mini-bart", "ia3", "image-text").id)
    (new.path / "secret").symlink_to("/etc/passwd")
    os.mkfifo(new.path / "pipe")
    keep(other, sweep("first", 1, 2), {}, "inline", "x")
    keep(other, sweep("first", 5), {}, "inline", "x")
    before = RunDir(results, RUNS[1].id).record.read_bytes()
    plan = (results / "sweeps" / "first.json").read_bytes()
    rows = listed(capsys, "merge", str(other), "--results", str(results), code=1)
    assert {row["run"]: row["outcome"] for row in rows} == {
        RUNS[0].id: "same",
        RUNS[1].id: "conflict",
        RUNS[2].id: "left out",
        new.id: "copied",
    }
    assert RunDir(results, RUNS[1].id).record.read_bytes() == before
    copied = RunDir(results, new.id)
    assert copied.read() == new.read()
    assert not (copied.path / "secret").is_symlink() and not (copied.path / "pipe").exists()
    assert [plan.key for plan in started_sweeps(results, "first")] == ["first", "first@2"]
    assert (results / "sweeps" / "first.json").read_bytes() == plan
    assert not list(results.glob(f"{MERGED}*"))
    shutil.rmtree(torn.path)
    theirs.write_bytes(before)
    assert {row["outcome"] for row in listed(capsys, "merge", str(other), "--results", str(results))} == {"same"}


@pytest.mark.parametrize("source", ["results", "nothing", "empty"])
def test_merge_needs_another_results_folder(source: str, results: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["merge", str(tmp_path / source), "--results", str(results)]) == 2
    assert source in capsys.readouterr().err


def test_all_results_become_one_table(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["export", "--results", str(results), "--format"]
    assert main([*words, "csv", "--out", str(tmp_path / "all.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == 12
    pytest.importorskip("pyarrow")
    assert main([*words, "parquet", "--out", str(tmp_path / "all.parquet")]) == 0
    assert len(pd.read_parquet(tmp_path / "all.parquet")) == 12
    assert main([*words, "parquet", "--out", "/dev/null/x"]) == 2


def test_without_pyarrow_the_error_says_what_to_install(results: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["export", "--results", str(results), "--format", "parquet", "--out", "x"]) == 2
    assert "vlpet-bench[parquet]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["x", "--format", "csv"], ["--format", "peft"], [RUNS[0].id, "--format", "peft"]])
def test_an_export_that_cannot_be_is_one_line(words: list[str], results: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["export", *words, "--results", str(results), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and (tmp_path / "out").read_text() == "mine"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with kept weights of two miniature models that have not learned anything."""
    from bench import stages

    results = tmp_path_factory.mktemp("trained")
    for method in ("lora", "vl-pet-large"):
        run = resolve("mini-bart", method, "image-text")
        fake_runs.run_one(run, Execution(), results)
        model = stages.seeded_model(run, 128, "cpu")
        stages.with_method(run, model).save(RunDir(results, run.id).weights)
    return results


def test_an_exported_run_is_read_by_peft(trained: Path, tmp_path: Path) -> None:
    import peft
    from safetensors.torch import load_file

    from bench import backbones

    out = tmp_path / "out"
    assert main(["export", "lora-mini-bart", "--format", "peft", "--out", str(out), "--results", str(trained)]) == 0
    model = backbones.build("mini-bart", feat_dim=128)
    loaded = peft.PeftModel.from_pretrained(model.lm, out)
    assert loaded.peft_config["default"].peft_type == "LORA"
    assert all(name.startswith("visual_embedding.") for name in load_file(out / "projector.safetensors"))
    assert json.loads((out / "run.json").read_text())["scores"]["vqa"] == 50.0


def test_all_trained_tensors_are_exported_where_peft_has_no_place(trained: Path, tmp_path: Path, capsys: Any) -> None:
    from safetensors.torch import load_file

    words = ["export", "vl-pet-large", "--results", str(trained), "--out", str(tmp_path / "out"), "--format"]
    assert main([*words, "peft"]) == 2
    assert "PEFT's format" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*words, "safetensors"]) == 0
    kept = next(trained.glob("runs/vl-pet-large*/weights.safetensors"))
    assert load_file(tmp_path / "out" / "trained.safetensors").keys() == load_file(kept).keys()


METHOD = """
from methods import Spec, method

@method("mine")
def mine(shape):
    return Spec()
"""
BAD_METHODS = {
    "no method": "x = 1",
    "no Python": "def",
    "a taken name": METHOD.replace("mine", "lora"),
    "a half": METHOD + "1 / 0",
    "an exit": "raise SystemExit(0)",
}


def test_a_file_of_methods_is_there_for_the_processes_of_a_sweep(tmp_path: Path, repo: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    code = """
import os, subprocess, sys
from bench.cli import main
assert main(["status", "--methods", "./mine.py,lora", "--suites", "image-text", "--format", "csv"]) == 0
child = "import methods; print(methods.get('mine').name, 'of a child'); methods.get('lora')"
subprocess.run([sys.executable, "-c", child], cwd="/", check=True)
"""
    environment = os.environ | {"PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "mine-mini-bart-image-text-s1" in done.stdout and "mine of a child" in done.stdout, done.stderr


def test_a_file_of_methods_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from methods.core import registry

    monkeypatch.setenv(registry.FILES, "gone.py")
    registry._discover.cache_clear()
    with pytest.raises(MethodError, match=r"gone\.py: no such file of methods"):
        registry.names()


@pytest.mark.parametrize("text", BAD_METHODS.values(), ids=BAD_METHODS)
def test_a_file_that_is_no_method_is_one_line_and_leaves_nothing(text: str, tmp_path: Path, capsys: Any) -> None:
    import methods

    before = methods.names()
    (tmp_path / "bad.py").write_text(text)
    assert main(["sweep", "--methods", str(tmp_path / "bad.py"), "--dry-run"]) == 2
    captured = capsys.readouterr().err
    assert "bad.py: cannot be used as a file of methods" in captured and captured.count("\n") == 1
    assert methods.names() == before


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_device_that_is_not_there_is_an_error_before_anything_runs(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.cli.sweep.check_inputs", lambda *inputs, partial: pytest.fail("data were read"))
    words = ["sweep", "--methods", "lora", "--device", "cuda:77", "--executor", executor]
    assert main([*words, "--results", str(tmp_path / "r"), "--reports", str(tmp_path / "p")]) == 2
    assert capsys.readouterr().err.startswith("error: --device cuda:77: torch sees")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS) and "--retry-failed" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_messages_go_to_a_log_as_well(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "log.txt"
    words = ["rm", "nothing", "--yes", "--results", str(results), "--log-file", str(log)]
    stream = sys.stderr
    assert main(words) == main([*words, "--verbose"]) == 2
    assert sys.stderr is stream
    lines = log.read_text().splitlines()
    assert lines[0].split(" ", 2)[2].startswith("$ python -m bench rm nothing")
    assert "error: nothing: no such run" in lines[1] and len(lines) > 4
    captured = capsys.readouterr().err
    assert "Traceback" in captured and "took " in captured
    assert main([*words[:-1], str(tmp_path)]) == 2
    assert "--log-file" in capsys.readouterr().err
