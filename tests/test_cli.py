"""The command line: exit codes, near matches, lightness, and a sweep from plan to report."""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import fake_runs
import pytest

import methods
from bench import tasks
from bench.cli import VERBS, add_verb, main
from bench.cli.options import execution
from bench.config import Execution, resolve
from bench.run_dir import RunDir

GRID = ["--methods", "lora,full", "--suites", "image-text", "--set", "steps=3"]


@pytest.fixture
def place(tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags that keep a sweep inside tmp_path; nothing is trained or drawn."""
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setattr("bench.report.write", lambda name, *rest, **more: [Path(name) / "report.html"])
    (tmp_path / "data").symlink_to(tiny_root)
    folders = ["--results", str(tmp_path / "r"), "--reports", str(tmp_path / "p")]
    return [*GRID, *folders, "--data", f"mini={tmp_path / 'data'}"]


def ids(*seeds: int, method: str = "lora") -> list[str]:
    runs = [resolve("mini-bart", method, "image-text", seed=seed, settings={"steps": 3}) for seed in seeds or (1,)]
    return [run.id for run in runs]


@pytest.mark.parametrize("words", [["--help"], [], ["--version"]], ids=["help", "nothing", "version"])
def test_help_imports_nothing_heavy(repo: Path, words: list[str]) -> None:
    heavy = ("torch", "transformers", "pandas", "numpy", "pydantic", "rich", "submitit")
    code = f"import sys; from bench.cli import main; main({words!r}); print([m for m in {heavy!r} if m in sys.modules])"
    captured = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert captured.stdout.splitlines()[-1] == "[]"


def test_help_is_quick(repo: Path) -> None:
    """Processor time, which other work on the machine does not lengthen as it does time on the clock."""
    took = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "bench", "--help"], cwd=repo, capture_output=True, check=True)
        after = os.times()
        took.append(sum(after[2:4]) - sum(before[2:4]))
    assert 0 < min(took) < 0.3


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    help_text = capsys.readouterr().out
    assert f"example: python -m bench {verb}" in help_text


def test_listings_in_three_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in rows] == tasks.names()
    assert main(["tasks", "--format", "csv"]) == 0
    assert [row["task"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == tasks.names()
    assert main(["backbones"]) == 0
    assert "mini-bart" in capsys.readouterr().out


def test_methods_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--backbone", "mini-t5", "--suite", "video-text", "--format", "json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"full", "lora", "vl-pet-large", "vl-adapter+vl-pet-large"} <= set(rows)
    assert "lora+vl-pet-large" not in rows
    assert rows["full"]["percent"] == 100
    assert all(0 < row["trainable"] <= row["total"] for row in rows.values())
    assert rows["vl-pet-large"]["percent"] == pytest.approx(
        100 * rows["vl-pet-large"]["trainable"] / rows["vl-pet-large"]["total"], abs=1e-4
    )
    facts = ("merges", "per task", "cached decoding", "encoder only")
    assert [rows["lora"][fact] for fact in facts] == [True, False, True, False]
    assert [rows["prompt-multiple"][fact] for fact in facts] == [False, True, True, True]
    assert main(["methods", "--backbone", "mini-t5", "--all", "--format", "json"]) == 0
    assert [row["method"] for row in json.loads(capsys.readouterr().out)] == methods.names()


def test_a_method_is_explained_with_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["methods", "--backbone", "bart-base", "--explain", "vl-pet-large", "--set", "gate=middleY"]
    assert main(words) == 0
    captured = capsys.readouterr().out
    for fact in ("G = 1 + z", "H' = G ⊙ (H + ΔH)", "gate.z [768]", "4,281,792 trainable", "gate=middleY"):
        assert fact in captured


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", *place, "--set", "rank=4", "--seeds", "1,2", "--dry-run", "--format", "json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["to run", "to run", "unsupported", "unsupported"]
    assert "no option 'rank'" in rows[2]["note"]
    assert rows[0]["trainable"] == rows[1]["trainable"] > 0
    assert rows[0]["seconds"] is None and rows[0]["cell"] == "lora [rank=4]"  # nothing like it was measured
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "p").exists()
    assert main([*words, "--data", f"mini={tmp_path}"]) == 0  # no data there
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["blocked", "blocked", "unsupported", "unsupported"]
    assert "no annotations of image-text" in rows[0]["note"]


@pytest.mark.parametrize("verb", ["sweep", "status"])
def test_verbs_of_a_grid_take_a_recipe(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--dry-run"] if verb == "sweep" else []
    words = ["--methods", "lora", "--suites", "image-text", "--recipe", "fair", "--data", "mini", "--format", "json"]
    assert main([verb, *words, *more]) == 0
    assert resolve("mini-bart", "lora", "image-text", recipe="fair", data="mini").id in capsys.readouterr().out


def test_a_device_that_is_not_there_is_named_before_data_are_read(
    place: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.check.check_for_runs", lambda *rest: pytest.fail("the data were read"))
    assert main(["sweep", *place, "--device", "cuda:99"]) == 2
    assert "--device cuda:99" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["sweep", "run"])
def test_a_lease_that_is_none_is_bad_input(
    verb: str, place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLPET_BENCH_LEASE_SECONDS", "inf")
    words = place if verb == "sweep" else ["--method", "lora", *place[4:]]
    assert main([verb, *words]) == 2
    assert "VLPET_BENCH_LEASE_SECONDS" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warnings.formatwarning", warnings.formatwarning)
    assert main(["--version"]) == 0
    assert (
        warnings.formatwarning("a plug-in is broken", UserWarning, "plugins.py", 44) == "warning: a plug-in is broken\n"
    )


def test_ablations_are_listed_in_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10 and all("?" in line for line in lines[1:])
    assert main(["ablate", "--list", "--format", "json"]) == 0
    rows = {row["ablation"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["granularity"]["axes"]["gate"][0] == "none" and rows["parts"]["changes"].startswith("-gate")
    assert len(rows) == len(lines) - 1


def test_an_ablation_runs_its_cells_and_takes_the_options_of_a_sweep(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = place[len(GRID) :]
    words = ["ablate", "granularity", *folders, "--seeds", "1", "--methods", "vl-pet-small", "--set", "steps=3"]
    assert main([*words, "--except", "gate=middle*", "--quiet"]) == 0
    assert "vl-pet-small,gate=none" in capsys.readouterr().out
    assert len(fake_runs.ledger(tmp_path / "r")) == 3
    assert main([*words, "--axis", "gate=large-full", "--quiet"]) == 0
    assert "vl-pet-small,gate=large-full" in capsys.readouterr().out
    runs = [run_id for run_id, *_ in fake_runs.ledger(tmp_path / "r")]
    assert all("steps=3" not in run_id and "vl-pet-small" in run_id for run_id in runs)


def test_a_plan_says_seeds_and_price(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folders = place[len(GRID) :]
    words = ["plan", *place, "--seeds", "1,2"]
    assert main(words) == 0
    captured = capsys.readouterr().out
    assert "no variance is stored" in captured and "4 runs: 4 to run" in captured
    assert main(["sweep", *place, "--seeds", "1,2", "--quiet"]) == 0
    capsys.readouterr()
    assert main([*words, "--format", "json", "--detect", "0.5"]) == 0
    content = json.loads(capsys.readouterr().out)
    rows = content["seeds"]
    assert [row["task"] for row in rows] == [*tasks.names("image-text"), "average"]
    assert [line["label"] for plan in content["figures"] for line in plan["methods"]] == ["lora", "full"]
    assert [row["state"] for row in content["price"]] == ["cached"] * 4
    assert all(row["sd_seeds"] == 0 and row["seeds_needed"] == 2 for row in rows)  # the stand-in always scores 50
    assert main(["plan", "granularity", *folders, "--detect", "0"]) == 2


def test_a_sweep_does_nothing_twice_and_more_seeds_only_add(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *place]) == 0
    captured = capsys.readouterr()
    assert "lora" in captured.out
    assert "50.00" in captured.out
    assert "report.html" in captured.out
    assert "2 runs: 2 to do" in captured.err
    assert main(["sweep", *place]) == 0
    assert "2 runs: 0 to do, 2 already done" in capsys.readouterr().err
    assert main(["sweep", *place, "--seeds", "1,2"]) == 0
    assert "4 runs: 2 to do, 2 already done" in capsys.readouterr().err
    assert len(fake_runs.ledger(tmp_path / "r")) == 4
    assert main(["sweep", *place, "--dry-run", "--format", "json"]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["cached", "cached"]


def test_a_failed_run_is_shown_with_its_cause_and_exit_code_1(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"2": "oom"}')
    assert main(["sweep", *place, "--seeds", "1,2", "--format", "json", "--quiet"]) == 1
    captured = capsys.readouterr()
    cells = json.loads(captured.out)["cells"]
    assert captured.err == ""
    assert [(cell["status"], cell["cause"]) for cell in cells] == [("done", None), ("failed", "oom")] * 2
    assert main(["sweep", *place, "--seeds", "1,2"]) == 1
    captured = capsys.readouterr()
    assert "2 failed before (--retry-failed runs them again)" in captured.err
    assert f"{ids(2)[0]}: failed (oom): no more; see {RunDir(tmp_path / 'r', ids(2)[0]).path}" in captured.err
    assert len(fake_runs.ledger(tmp_path / "r")) == 6  # a failed run is tried twice
    assert main(["sweep", *place, "--seeds", "2"]) == 1
    assert "OOM" in capsys.readouterr().out
    monkeypatch.delenv("FAKE_RUNS")
    assert main(["sweep", *place, "--seeds", "1,2", "--retry-failed"]) == 0
    assert len(fake_runs.ledger(tmp_path / "r")) == 8


def test_the_retry_policy_is_chosen_by_name(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"1": "oom"}')
    for _ in range(2):
        assert main(["sweep", *place, "--retry", "never"]) == 1
    assert len(fake_runs.ledger(tmp_path / "r")) == 2
    assert "2 failed before" in capsys.readouterr().err
    plan = ["sweep", *place, "--dry-run", "--format", "json"]
    for retry, word in (("never", "failed"), ("until-parked", "to run")):
        assert main([*plan, "--retry", retry]) == 0
        assert {row["state"] for row in json.loads(capsys.readouterr().out)} == {word}
    assert main(["sweep", *place]) == 1  # the second failure in the same way parks the runs
    assert len(fake_runs.ledger(tmp_path / "r")) == 4
    assert main(["sweep", *place]) == 1
    assert len(fake_runs.ledger(tmp_path / "r")) == 4


def test_an_interruption_is_130_and_says_how_to_go_on(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_RUNS", '{"2": "interrupt"}')
    words = ["sweep", *place, "--seeds", "1,2"]
    assert main(words) == 130
    assert f"Go on with: python -m bench {' '.join(words)}" in capsys.readouterr().err
    assert main(["status", *GRID, "--seeds", "1,2", "--results", str(tmp_path / "r"), "--format", "json"]) == 0
    states = {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)["runs"]}
    assert [states[run] for run in ids(1, 2)] == ["done", "interrupted"]
    assert main(["report", *place[: len(GRID) + 4], "--seeds", "2", "--format", "json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert cells[0]["cause"] == "interrupted"
    monkeypatch.delenv("FAKE_RUNS")
    assert main(words) == 0


def test_a_corrupt_record_is_reported_and_done_again(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *place]) == 0
    record = RunDir(tmp_path / "r", ids()[0]).record
    record.write_text(record.read_text()[:50])
    capsys.readouterr()
    assert main(["sweep", *place]) == 0
    captured = capsys.readouterr().err
    assert f"warning: {record}" in captured
    assert "2 runs: 1 to do, 1 already done" in captured


def test_results_and_reports_that_cannot_be_written(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*words: Any, **more: Any) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.report.write", full)
    assert main(["sweep", *place]) == 2
    assert "No space left on device" in (captured := capsys.readouterr().err)
    assert "--reports" in captured
    (tmp_path / "file").write_text("")
    assert main(["sweep", *place, "--results", str(tmp_path / "file")]) == 2
    assert "--results" in capsys.readouterr().err


def test_one_run(place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--method", "lora", "--set", "steps=3", *place[len(GRID) :]]
    assert main(words) == 0
    captured = capsys.readouterr().out
    assert "CIDEr" in captured
    assert str(RunDir(tmp_path / "r", ids()[0]).record) in captured


def test_scores_are_made_again_from_predictions(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *place, "--methods", "lora"]) == 0
    folder = RunDir(tmp_path / "r", ids()[0])
    record = folder.read()
    assert record is not None
    before = record.scores["gqa"].model_copy(update={"status": "failed", "metrics": {}, "error": "no Java"})
    folder.finish(record.model_copy(update={"scores": record.scores | {"gqa": before}}))
    rows = [
        {"id": str(i), "prediction": p, "reference": {"cat": 1.0}} for i, p in enumerate(["cat", "dog", "cat", "cat"])
    ]
    folder.write_predictions("gqa", rows)
    assert main(["sweep", *place, "--methods", "lora"]) == 1
    captured = capsys.readouterr().err
    assert f"{ids()[0]}: no score for gqa (no Java)" in captured
    assert f"python -m bench score --all --results {tmp_path / 'r'}" in captured
    words = ["score", ids()[0], "--results", str(tmp_path / "r"), "--format", "json", "--task"]
    assert main([*words, "gqa"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["before"], row["score"], row["status"]) == (None, 75.0, "done")
    record = folder.read()
    assert record is not None
    assert record.scores["gqa"].metrics["accuracy"] == 75.0
    assert record.scores["vqa"].metrics == {"accuracy": 50.0}
    folder.predictions("vqa").write_bytes(b"torn")
    assert main([*words, "vqa"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["status"], row["score"]) == ("corrupt", 50.0)
    assert main(["sweep", *place, "--methods", "lora"]) == 0


def test_only_what_can_be_gone_on_with_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*words: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.tasks.names", stop)
    assert main(["tasks"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("flag", ["--results", "--reports"])
def test_the_home_directory_is_expanded_after_an_equals_sign(
    flag: str, place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("bench.report.write", lambda name, *rest, **more: seen.append(rest[2]) or [])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *place, f"{flag}=~/x"]) == 0
    assert not (tmp_path / "~").exists()
    assert (
        (tmp_path / "x" / "runs").is_dir()
        if flag == "--results"
        else [path.parent for path in seen] == [tmp_path / "x"]
    )


def test_a_hint_is_one_command_line(
    place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "my results"
    words = ["sweep", *place, "--methods", "lora", "--results", str(results)]
    assert main(words) == 0
    folder = RunDir(results, ids()[0])
    record = folder.read()
    assert record is not None
    lost = record.scores["gqa"].model_copy(update={"status": "failed", "metrics": {}, "error": "no Java"})
    folder.finish(record.model_copy(update={"scores": record.scores | {"gqa": lost}}))
    capsys.readouterr()
    assert main(words) == 1
    assert f"python -m bench score --all --results '{results}'" in capsys.readouterr().err


EXECUTION_FLAGS = {
    "device": ["--device", "cpu"],
    "threads": ["--threads", "2"],
    "micro_batch": ["--micro-batch", "3"],
    "merge": ["--merge"],
    "compile": ["--compile"],
    "data": ["--data", "official=/x"],
    "predict": ["--predict", "test"],
}


@pytest.mark.parametrize("verb", ["run", "sweep", "ablate"])
def test_every_flag_of_an_execution_arrives(verb: str) -> None:
    """All but what executors set themselves."""
    assert set(EXECUTION_FLAGS) == set(Execution.model_fields) - {"share", "workers"}
    parser = argparse.ArgumentParser()
    add_verb(parser, verb, import_module(f"bench.cli.{verb}"))
    needed = ["--method", "lora"] if verb == "run" else []
    plain = execution(parser.parse_args(needed))
    for field, words in EXECUTION_FLAGS.items():
        given = execution(parser.parse_args([*needed, *words]))
        changed = {name for name in Execution.model_fields if getattr(given, name) != getattr(plain, name)}
        assert changed == {field}
