"""``evaluate``: kept weights once more, on another split, and with failures that lose nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import stages
from bench.cli import main
from bench.config import Execution, resolve
from bench.record_schema import Record
from bench.run import run_one
from bench.run_dir import RunDir

SETTINGS = {"steps": 2, "batch_size": 4, "beams": 1, "n_frames": 8}
TASKS = ("tvqa", "how2qa")


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A trained run of two tasks whose scores need no Java."""
    results = tmp_path_factory.mktemp("results")
    run = resolve("mini-bart", "ia3", "video-text", task_names=TASKS, settings=SETTINGS)
    run_one(run, Execution(device="cpu", data={"mini": tiny_root}), results)
    return RunDir(results, run.id)


@pytest.fixture
def folder(trained: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the trained run; one score in its record is another than the weights give."""
    import shutil

    copy = RunDir(tmp_path, trained.id)
    shutil.copytree(trained.path, copy.path)
    record = read(copy)
    other = record.scores["tvqa"].model_copy(update={"metrics": {"accuracy": 12.5}})
    copy.finish(record.model_copy(update={"scores": record.scores | {"tvqa": other}}))
    return copy


def read(folder: RunDir) -> Record:
    record = folder.read()
    assert record is not None
    return record


def evaluate(folder: RunDir, root: Path, *words: str) -> int:
    return main(["evaluate", str(folder.path), "--data", f"mini={root}", "--device", "cpu", "--quiet", *words])


def files(folder: RunDir) -> dict[str, bytes]:
    """Every file of the run that an evaluation could harm, by its path."""
    paths = [p for p in folder.path.rglob("*") if p.is_file() and not p.name.endswith((".json", ".txt"))]
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in paths}


def test_a_record_is_only_replaced_on_request(
    folder: RunDir, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folder.record.read_bytes()
    assert evaluate(folder, tiny_root) == 2
    assert "--again" in capsys.readouterr().err
    assert folder.record.read_bytes() == before


def test_again_moves_the_earlier_scores_into_the_history(
    trained: RunDir, folder: RunDir, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_predictions("tvqa", [])
    assert evaluate(folder, tiny_root, "--again") == 0
    assert "how2qa" in capsys.readouterr().out
    record, original = read(folder), read(trained)
    assert {name: score.metrics for name, score in record.scores.items()} == {
        name: score.metrics for name, score in original.scores.items()
    }
    (earlier,) = record.scores["tvqa"].history
    assert (earlier.metrics, earlier.reason) == ({"accuracy": 12.5}, "evaluated again")
    assert record.scores["how2qa"].history == []
    (evaluation,) = record.evaluations
    assert (evaluation.number, evaluation.split, evaluation.status) == (1, "reported", "done")
    assert evaluation.scores.keys() == set(TASKS) and "git_commit" in evaluation.version
    assert folder.read_predictions("tvqa") == trained.read_predictions("tvqa")
    assert folder.read_scores("tvqa") == trained.read_scores("tvqa")
    assert (folder.evaluation(1) / "replaced" / "predictions" / "tvqa.jsonl.gz").exists()
    assert (record.time, record.memory, record.finished) == (original.time, original.memory, original.finished)


def test_another_split_is_added(folder: RunDir, tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, kept = read(folder), files(folder)
    assert evaluate(folder, tiny_root, "--split", "train", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["evaluations"][0]["split"] == "train"
    record = read(folder)
    assert record.scores == before.scores
    (evaluation,) = record.evaluations
    assert {score.split for score in evaluation.scores.values()} == {"train"}
    assert evaluation.scores["tvqa"].n == len(folder.read_predictions("tvqa", 1)) > 0
    examples = folder.read_scores("tvqa", 1)
    assert examples is not None and examples.split == "train"
    assert {name: content for name, content in files(folder).items() if name in kept} == kept
    assert evaluate(folder, tiny_root, "--split", "train") == 0
    assert [evaluation.number for evaluation in read(folder).evaluations] == [1, 2]


def test_a_split_that_is_not_there(folder: RunDir, tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder, tiny_root, "--split", "valdation") == 2
    assert "'validation'" in capsys.readouterr().err
    folder.record.unlink()
    assert evaluate(folder, tiny_root, "--split", "train") == 2
    assert "evaluate the reported splits first" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--again"], ["--split", "train"]])
def test_a_failure_is_recorded_and_loses_nothing(
    folder: RunDir,
    tiny_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    before, kept, predict = read(folder), files(folder), stages.evaluate.predict

    def broken(model: Any, task: Any, *rest: Any, **more: Any) -> list[str]:
        if task.name == "how2qa":
            raise ValueError("a bug")
        return predict(model, task, *rest, **more)

    monkeypatch.setattr(stages.evaluate, "predict", broken)
    assert evaluate(folder, tiny_root, *words) == 1
    assert "failed (error): a bug" in capsys.readouterr().out
    record = read(folder)
    assert (record.status, record.scores) == ("done", before.scores)
    (evaluation,) = record.evaluations
    assert (evaluation.status, evaluation.cause) == ("failed", "error")
    assert evaluation.error is not None and evaluation.error.phase == "evaluate"
    assert {name: content for name, content in files(folder).items() if name in kept} == kept


def test_bad_input_and_an_interruption_write_nothing(
    folder: RunDir, tiny_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folder.record.read_bytes()

    def interrupted(*inputs: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages.evaluate, "predict", interrupted)
        assert evaluate(folder, tiny_root, "--again") == 130

    def run_out(*inputs: Any, **more: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:  # a larger machine or a smaller batch will do it
        patch.setattr(stages.evaluate, "predict", run_out)
        assert evaluate(folder, tiny_root, "--again") == 2
    assert evaluate(folder, Path("/no/such/root"), "--again") == 2
    assert "no such folder" in capsys.readouterr().err
    assert folder.record.read_bytes() == before
    assert not list(folder.path.glob("evaluations/*"))


def test_a_first_evaluation_that_fails_can_be_made_again(
    trained: RunDir, folder: RunDir, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.record.unlink()

    def broken(*inputs: Any, **more: Any) -> None:
        raise RuntimeError("CUDA error")

    with monkeypatch.context() as patch:
        patch.setattr(stages.evaluate, "predict", broken)
        assert evaluate(folder, tiny_root) == 1
    failed = read(folder)
    assert (failed.status, failed.cause) == ("failed", "error")
    assert failed.error is not None and "CUDA error" in failed.error.message
    assert "CUDA error" in folder.log.read_text()
    assert evaluate(folder, tiny_root) == 0
    record = read(folder)
    assert (record.status, record.cause, record.error) == ("done", None, None)
    assert [evaluation.status for evaluation in record.evaluations] == ["failed", "done"]
    assert record.evaluations[0].error == failed.error
    assert {name: score.metrics for name, score in record.scores.items()} == {
        name: score.metrics for name, score in read(trained).scores.items()
    }


def test_a_metric_that_fails_replaces_no_score(
    folder: RunDir, tiny_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from bench.config import Run

    def broken(examples: Any, predictions: Any) -> Any:
        raise RuntimeError("no metric")

    before = read(folder)
    tasks = [replace(task, score=broken) if task.name == "tvqa" else task for task in before.run.task_list]
    monkeypatch.setattr(Run, "task_list", property(lambda self: tasks))
    assert evaluate(folder, tiny_root, "--again") == 1
    record = read(folder)
    assert record.scores["tvqa"] == before.scores["tvqa"]
    assert record.evaluations[0].scores["tvqa"].error == "RuntimeError: no metric"
    assert folder.predictions("tvqa").exists() and folder.predictions("tvqa", 1).exists()


def test_weights_that_are_no_numbers_are_refused(
    folder: RunDir, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder.record.unlink()
    whole = load_file(folder.weights)
    first = sorted(whole)[0]
    for tensor, fault in [
        (torch.full_like(whole[first], float("nan")), f"1 not finite: {first}"),
        (torch.full_like(whole[first], float("inf")), f"1 not finite: {first}"),
        (whole[first].to(torch.int64), f"1 no floating-point numbers: {first}"),
    ]:
        save_file({**whole, first: tensor}, folder.weights)
        assert evaluate(folder, tiny_root) == 2
        assert fault in capsys.readouterr().err
        assert not folder.record.exists()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_of_wrapped_and_compiled_models_are_taken_off_and_said(prefix: str, folder: RunDir) -> None:
    from safetensors.torch import load_file, save_file

    from bench.kept_weights import load

    whole = load_file(folder.weights)
    save_file({f"{prefix}{name}": tensor for name, tensor in whole.items()}, folder.weights)
    with pytest.warns(UserWarning, match=f"begin with '{prefix}'"):
        state = load(folder.path, feat_dim=96).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tasks": ["x"]}, "unknown task of suite video-text 'x'"),
        ({"tasks": ["gqa"]}, "unknown task of suite video-text 'gqa'"),
        ({"method": "nosuch"}, "unknown method 'nosuch'"),
        ({"overrides": {"nosuch": 1}}, "no option 'nosuch'"),
        ({"suite": "nosuch"}, "unknown suite 'nosuch'"),
    ],
)
def test_a_configuration_that_names_what_is_not_there(
    change: dict[str, Any], fault: str, folder: RunDir, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.record.unlink()
    folder.run.write_text(json.dumps(json.loads(folder.run.read_text()) | change))
    assert evaluate(folder, tiny_root) == 2
    message = capsys.readouterr().err
    assert "run.json: " in message and fault in message
    assert not folder.record.exists()


def test_an_evaluation_on_other_data_than_the_records_is_refused(
    folder: RunDir, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    other = Path(shutil.copytree(tiny_root, tmp_path / "other"))
    path = next(other.rglob("tvqa*.json*"), None) or next(other.rglob("*.jsonl"))
    path.write_text(path.read_text() + "\n")
    content = folder.record.read_bytes()
    assert evaluate(folder, other, "--again") == 2
    assert f"data {path.relative_to(other)}: " in capsys.readouterr().err
    assert folder.record.read_bytes() == content
