"""``predict``: splits without public answers, in the files that evaluation servers take; scores stay as they are."""

import gzip
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench import run_data, stages
from bench.cli import main
from bench.config import Execution, resolve
from bench.data.features import feat_dim
from bench.fingerprints import Expectations
from bench.run import run_one
from bench.run_dir import RunDir
from bench.sweep.run_state import state
from bench.tasks.gqa import TASK as GQA
from bench.tasks.vqa import TASK as VQA

SETTINGS = {"steps": 2, "batch_size": 4, "beams": 1, "n_frames": 8}
TASKS = {"video-text": ("tvqa", "yc2c"), "image-text": ("vqa", "gqa")}


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny data root, to which files are added after training."""
    return Path(shutil.copytree(tiny_root, tmp_path_factory.mktemp("roots") / "tiny"))


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    results = tmp_path_factory.mktemp("results")
    folders = {}
    for suite, names in TASKS.items():
        run = resolve("mini-bart", "ia3", suite, task_names=names, settings=SETTINGS)
        run_one(run, Execution(device="cpu", data={"mini": root}), results)
        folders[suite] = RunDir(results, run.id)
    add_unanswered(root)
    return folders


def add_unanswered(root: Path) -> None:
    """Add official questions without answers, and features for them, to a data root."""
    folder = root / "COCO/clip_features/test2015"
    folder.mkdir()
    questions = [{"image_id": 7, "question": "what is it?", "question_id": 10 * n} for n in range(3)]
    (root / VQA.unanswered["test-dev"]).write_text(json.dumps({"questions": questions}))
    name = "COCO_test2015_000000000007"
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file[f"{name}/features"] = np.ones((49, feat_dim(root, VQA)), np.float16)
    asked = json.loads((root / "GQA/testdev.json").read_text())[:4]
    without = [{key: value for key, value in record.items() if key != "label"} for record in asked]
    (root / GQA.unanswered["test"]).write_text(json.dumps(without))


def predict(folder: RunDir, root: Path, *words: str) -> int:
    results, data = str(folder.path.parents[1]), f"mini={root}"
    return main(["predict", folder.id[:-3], "--results", results, "--data", data, "--device", "cpu", "-q", *words])


CASES = {
    "test-dev": ("image-text", "vqa", "predicted/test-dev/vqa_test-dev_predictions.json", ["question_id", "answer"]),
    "test": ("image-text", "gqa", "predicted/test/gqa_test_predictions.json", ["questionId", "prediction"]),
    "clips": ("video-text", "yc2c", "predicted/test/yc2c_test_predictions.jsonl", ["vid_name", "clip_id", "descs"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_split_without_answers_is_written_and_touches_no_score(
    case: str, trained: dict[str, RunDir], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, task, file, keys = CASES[case]
    folder, split = trained[suite], CASES[case][2].split("/")[1]
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert predict(folder, root, "--split", split, "--format", "json") == 0
    printed = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    assert printed[str(folder.path / file)]["task"] == task
    text = (folder.path / file).read_text()
    entries = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    assert [list(entry) for entry in entries] == [keys] * printed[str(folder.path / file)]["examples"]
    own = gzip.decompress((folder.predicted(split) / f"{task}.jsonl.gz").read_bytes()).decode().splitlines()
    assert len(own) == len(entries) > 0
    assert {path: path.read_bytes() for path in before} == before


def test_questions_that_are_not_there_cost_no_other_task_its_predictions(
    trained: dict[str, RunDir], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = (root / GQA.unanswered["test"]).rename(root / "away")
    try:
        assert predict(trained["image-text"], root, "--split", "test", "--format", "json") == 0
        assert {row["task"] for row in json.loads(capsys.readouterr().out)} == {"vqa"}
        run_data.tokenized_split.cache_clear()
        assert predict(trained["image-text"], root, "--split", "test", "--task", "gqa") == 2
        assert "GQA/submit.json: no such file" in capsys.readouterr().err
    finally:
        moved.rename(root / GQA.unanswered["test"])


def test_only_the_tasks_that_are_named_and_a_folder_to_export_to(
    trained: dict[str, RunDir], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, target = trained["video-text"], tmp_path / "upload"
    words = ["--split", "test", "--task", "tvqa", "--export", str(target)]
    assert predict(folder, root, *words) == 0
    file = target / "tvqa_test_predictions.json"
    assert list(target.iterdir()) == [file]
    assert {type(index) for index in json.loads(file.read_text()).values()} == {int}
    assert predict(folder, root, *words) == 0  # the same again: nothing new
    assert list(target.iterdir()) == [file]
    file.write_text("mine")
    assert predict(folder, root, *words) == 0
    assert file.read_text() == "mine"
    assert "tvqa_test_predictions-2.json" in capsys.readouterr().out
    assert json.loads((target / "tvqa_test_predictions-2.json").read_text())


@pytest.mark.parametrize(
    ("suite", "words", "message"),
    [
        ("video-text", ["--split", "tset"], "unknown split 'tset'; did you mean 'test'"),
        ("video-text", ["--split", "test", "--task", "tvq"], "unknown task of this run 'tvq'; did you mean 'tvqa'"),
        ("video-text", ["--split", "train"], "--split train: examples to train on"),
        ("image-text", ["--split", "test-dev", "--task", "gqa"], "unknown split 'test-dev'"),
        ("image-text", ["--split", "test-std"], "v2_OpenEnded_mscoco_test2015_questions.json: no such file"),
    ],
)
def test_what_cannot_be_predicted_is_an_error_before_anything_is(
    suite: str,
    words: list[str],
    message: str,
    trained: dict[str, RunDir],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(stages, "predict_task", lambda *inputs: 1 / 0)
    assert predict(trained[suite], root, *words) == 2
    assert message in capsys.readouterr().err


def test_missing_features_are_counted_and_named(
    trained: dict[str, RunDir], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "COCO/clip_features/test2015/COCO_test2015_000000000007.h5"
    moved = file.rename(file.with_suffix(".away"))
    try:
        assert predict(trained["image-text"], root, "--split", "test-dev") == 2
    finally:
        moved.rename(file)
    assert "vqa test-dev lacks 1 of 1 feature files (COCO/clip" in capsys.readouterr().err


def test_what_is_added_for_a_split_makes_no_run_stale(trained: dict[str, RunDir], root: Path) -> None:
    expected = Expectations({"mini": root})
    for folder in trained.values():
        assert state(folder.path.parents[1], folder.read_run(), expected=expected).name == "done"


SWEEP = ["sweep", "--methods", "ia3", "--suites", "video-text", "--tasks", "tvqa", "--quiet", "--predict"]


def test_a_sweep_predicts_a_split_and_the_ids_stay(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.cli.sweep.write_report", lambda *inputs, **more: None)
    words = ["--data", f"mini={tiny_root}", *(w for k, v in SETTINGS.items() for w in ("--set", f"{k}={v}"))]
    assert main([*SWEEP, "tset", *words]) == 2
    assert "unknown split 'tset'" in capsys.readouterr().err
    assert not (tmp_path / "results/runs").exists()
    assert main([*SWEEP, "test", *words]) == 0
    run = resolve("mini-bart", "ia3", "video-text", task_names=("tvqa",), settings=SETTINGS)
    folder = RunDir(tmp_path / "results", run.id)
    record = folder.read()
    assert record is not None and record.scores["tvqa"].split == "validation" and record.notes == []
    assert (folder.predicted("test") / "tvqa_test_predictions.json").exists()
    assert main([*SWEEP, "tset", *words]) == 2 and "unknown split 'tset'" in capsys.readouterr().err
    assert main([*SWEEP, "validation", *words]) == 0
    assert f"python -m bench predict {run.id} --split validation" in capsys.readouterr().err


def test_a_split_that_fails_costs_no_score(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = resolve("mini-bart", "ia3", "video-text", task_names=("tvqa",), settings=SETTINGS)
    monkeypatch.setattr("bench.predict.distinct", lambda *inputs: 1 / 0)
    record = run_one(run, Execution(device="cpu", data={"mini": tiny_root}, predict="test"), tmp_path)
    assert record.status == "done" and record.scores["tvqa"].status == "done"
    assert record.notes == ["split test was not predicted: ZeroDivisionError: division by zero"]
