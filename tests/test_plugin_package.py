"""A package outside the tree adds a ninth task and a suite of its own by entry points, and changes nothing else."""

import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench import suites
from bench.cli import main

pytestmark = pytest.mark.slow
PACKAGE = Path(__file__).parent / "plugin_package"
DRY_RUN = ["sweep", "default", "--dry-run", "--format", "json"]
SETTINGS = ["--set", "steps=4", "--set", "limit=12"]
NINTH = ["--suites", "image-text", "--tasks", "yesno,gqa,vqa", *SETTINGS]
AUDIO = ["--tasks", "beats", *SETTINGS]  # a sweep that names no suite means those of its tasks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed: its modules, and the metadata that pip writes of its pyproject."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE / "hearing", folder / "hearing")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plugin")


@pytest.fixture(scope="module")
def answers(site: Path, folder: Path, repo: Path, tiny_root: Path) -> dict[str, Any]:
    """What a process in which the package is installed prints, by command; all exit codes are 0."""
    folders = ["--results", str(folder / "results"), "--reports", str(folder / "reports")]
    data = ["--data", f"mini={tiny_root}"]
    for name in ("ninth", "audio"):
        (folder / f"{name}.toml").write_text('methods = ["lora"]')
    commands = {
        "tasks": ["tasks", "--format", "json"],
        "check": ["data", "check", str(tiny_root)],
        "check audio": ["data", "check", "--suite", "audio-text"],
        "methods": ["methods", "--suite", "audio-text", "--backbone", "mini-bart", "--format", "json"],
        "plan": [*DRY_RUN, *data, *folders[:2]],
        "ninth": ["sweep", str(folder / "ninth.toml"), *NINTH, *data, *folders, "--quiet"],
        "audio": ["sweep", str(folder / "audio.toml"), *AUDIO, *folders, "--quiet"],
        "report": ["report", str(folder / "ninth.toml"), *NINTH, *data, *folders],
    }
    script = f"""
import contextlib, io, json, sys
import bench
from bench import suites
from bench.cli import main
printed = {{}}
for name, words in {commands!r}.items():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words)
    assert code == 0, (name, code, out.getvalue())
    printed[name] = out.getvalue()
frame = bench.load_results({str(folder / "results")!r}, limited=True, tryouts=True)
printed["frame"] = json.loads(frame.to_json(orient="records"))
print(json.dumps(printed))
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), str(repo)]),
        "VLPET_BENCH_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_tasks_are_listed_and_checked(answers: dict[str, Any], folder: Path) -> None:
    rows = {row["task"]: row for row in json.loads(answers["tasks"])}
    assert list(rows)[:8] == suites.official_tasks()
    assert set(list(rows)[8:]) == {"yesno", "beats"}
    assert (rows["yesno"]["official"], rows["yesno"]["version"], rows["vqa"]["official"]) == (False, 2, True)
    assert rows["beats"]["suite"] == "audio-text" and rows["beats"]["official"]
    assert "ok     yesno train:" in answers["check"]
    assert "beats" not in answers["check"]  # this root has no annotations of audio-text
    assert answers["check audio"].splitlines() == [
        "ok     beats train: 40 examples (beats_train)",
        "ok     beats validation: 12 examples (beats_validation)",
    ]
    (generated,) = (folder / "cache").glob("mini-*")
    assert generated.name.startswith("mini-audio-text-v3-")


def test_they_train_are_evaluated_and_reported(answers: dict[str, Any], folder: Path) -> None:
    by_suite: dict[str, list[dict[str, Any]]] = {}
    for row in answers["frame"]:
        by_suite.setdefault(row["suite"], []).append(row)
        assert row["status"] == "done"
        assert row["score"] is not None and not math.isnan(row["score"])
    assert [row["task"] for row in by_suite["image-text"]] == ["vqa", "gqa", "yesno"]
    assert [row["task"] for row in by_suite["audio-text"]] == ["beats"]
    assert "-image-text-vqa-gqa-yesno-s1-" in by_suite["image-text"][0]["run_id"]
    assert "-audio-text-s1-" in by_suite["audio-text"][0]["run_id"]
    assert json.loads(by_suite["audio-text"][0]["settings"])["n_frames"] == 6
    table = next(folder.glob("reports/ninth-*/results.md")).read_text()
    assert "| VQAv2 Acc. | GQA Acc. | VQA yes/no Acc. |" in table
    assert "Beats Acc." in next(folder.glob("reports/audio-*/results.md")).read_text()
    assert "VQA yes/no" in answers["report"]


def test_no_run_and_no_plan_of_the_official_tasks_changes(
    answers: dict[str, Any], folder: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*DRY_RUN, "--data", f"mini={tiny_root}", "--results", str(folder / "none")]
    assert main(words) == 0
    assert json.loads(answers["plan"]) == json.loads(capsys.readouterr().out)


def test_a_record_of_a_task_that_is_not_installed_is_left_out_with_a_warning(
    answers: dict[str, Any], folder: Path
) -> None:
    import bench

    with pytest.warns(UserWarning) as warnings:
        frame = bench.load_results(folder / "results", limited=True, tryouts=True)
    assert frame.empty
    messages = sorted(str(warning.message) for warning in warnings)
    assert "unknown task 'beats'" in messages[0] or "audio-text" in messages[0]
    assert "unknown task 'yesno'" in messages[1]
