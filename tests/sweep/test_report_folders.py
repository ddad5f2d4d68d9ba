"""A report never takes the place of another one, and is called so that people know which it is."""

import json
from pathlib import Path

import fake_runs
import pytest

from bench.cli import main
from bench.cli.report_folder import PLAN, ReportFolder
from bench.sweep.report_names import report_name
from bench.sweep.spec import MAX_NAME, check_file_name, load

NAMES = {
    "lora-vs-vl-pet-large-image-text": {"methods": ("lora", "vl-pet-large"), "suites": ("image-text",)},
    "default-seeds-1-2-3": {"seeds": (1, 2, 3)},
    "default-steps-20-lr-0.001": {"given": {"steps": 20, "lr": 0.001}},
    "4-methods-bart-base": {"methods": ("a", "b", "c", "d"), "backbones": ("/models/bart-base",)},
    "default-rank-1-2-drop-gate+norms": {"axes": {"rank": (1, 2)}, "drop": ("gate+norms",)},
    "default-except-lr-0.1": {"but": ("lr=0.1",)},
    None: {"max_cells": 3},
}


@pytest.mark.parametrize(("name", "fields"), NAMES.items(), ids=str)
def test_a_folder_is_called_after_what_the_flags_change(name: str | None, fields: dict[str, object]) -> None:
    base = load("default")
    assert report_name(base, base.model_copy(update=fields)) == name
    assert name is None or check_file_name(name)


@pytest.mark.parametrize("word", ["../../etc", "x" * 300, "\n\0", "..", "größe", "<b>"])
def test_any_flag_makes_a_name_for_a_file(word: str) -> None:
    base = load("default")
    name = report_name(base, base.model_copy(update={"methods": (word,), "given": {word: word}}))
    assert name and check_file_name(f"{name}-tuning") and len(f"{name}-tuning@99") <= MAX_NAME


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which sweeps take milliseconds, and whose reports are one page and the files of ``FILES``."""
    monkeypatch.setattr("bench.run.run_one", fake_runs.run_one)
    monkeypatch.setattr("bench.cli.sweep.check_inputs", lambda *inputs, partial: None)

    def write(name: str, frame: object, plan: list[dict[str, str]], folder: Path, *rest: object, **more: object):
        paths = [folder / "report.html", *(folder / "plots" / f"{cell['run_id']}.csv" for cell in plan)]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name)
        return paths

    monkeypatch.setattr("bench.report.write", write)
    monkeypatch.setattr("bench.report.table_text", lambda *content: "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = ["--methods", "lora", "--suites", "image-text", "--quiet"]


def test_every_plan_has_a_report_of_its_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *WORDS]) == 0
    assert main(["sweep", *WORDS, "--set", "steps=3"]) == 0
    assert main(["sweep", *WORDS, "--name", "mine"]) == 0
    assert sorted(path.name for path in (place / "reports").iterdir()) == [
        "lora-image-text",
        "lora-image-text-steps-3",
        "mine",
    ]
    assert main(["status", "mine"]) == 0
    capsys.readouterr()
    assert main(["report", "default", "--methods", "ia3", "--suites", "image-text", "--name", "mine"]) == 0
    captured = capsys.readouterr()
    assert "reports/mine has the report of another plan; this one is in reports/mine@2" in captured.err
    assert main(["sweep", *WORDS, "--name", "../x"]) == 2


def test_a_report_of_an_earlier_version_or_of_a_person_stays(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("lora-image-text", None), ("lora-image-text@2", "[")):
        folder = place / "reports" / name
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("mine")
        if content:
            (folder / PLAN).write_text(content)
    (place / "reports" / "lora-image-text@3").touch()
    assert main(["sweep", *WORDS]) == 0
    assert (place / "reports" / "lora-image-text@4" / "report.html").read_text() == "report.html"
    assert (place / "reports" / "lora-image-text" / "report.html").read_text() == "mine"


def test_files_of_an_earlier_report_go_and_those_of_people_stay(place: Path) -> None:
    assert main(["sweep", *WORDS, "--name", "mine"]) == 0
    folder = place / "reports" / "mine"
    plan = json.loads((folder / PLAN).read_text())
    (folder / "notes.txt").touch()
    (folder / "old.tex").touch()
    (place / "precious").touch()
    hostile = ["../../precious", str(place / "precious"), "old.tex", "a\0b", 3, "", "plots"]
    (folder / PLAN).write_text(json.dumps(plan | {"files": [*plan["files"], *hostile]}))
    assert main(["report", "mine"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", PLAN, "plots", "report.html"]
    assert (place / "precious").exists()
    assert json.loads((folder / PLAN).read_text())["files"] == plan["files"]


def test_a_claim_is_of_one_plan(tmp_path: Path) -> None:
    sweep = load("default")
    other = sweep.model_copy(update={"seeds": (2,)})
    assert ReportFolder.claim(tmp_path, sweep).path == tmp_path / "default"
    assert ReportFolder.claim(tmp_path, other).path == tmp_path / "default@2"
    assert ReportFolder.claim(tmp_path, sweep.model_copy(update={"max_cells": 9})).path == tmp_path / "default"
