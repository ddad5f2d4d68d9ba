"""run_one: real runs of a tiny size, their records, their failures, and what they read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import SETTINGS, make

from bench import micro_batches, records, stages, tasks, train
from bench.config import Execution, Run, resolve
from bench.files import read_json_lines
from bench.run import run_one
from bench.run_dir import RunDir
from bench.scoring import score_rows


@pytest.fixture
def execution(tiny_root: Path) -> Execution:
    return Execution(device="cpu", data={"mini": tiny_root})


def test_a_run_leaves_a_complete_record(execution: Execution, tmp_path: Path) -> None:
    run, events = make("image-text"), []
    record = run_one(run, execution, tmp_path, events.append)
    folder = RunDir(tmp_path, run.id)
    assert record == folder.read()
    assert record.status == "done"
    assert set(record.scores) == {"vqa", "gqa", "nlvr", "caption"}
    assert all(score.status == "done" and score.metric in score.metrics for score in record.scores.values())
    parameters = record.parameters
    assert parameters["trainable"] == parameters["new"] + parameters["unfrozen"] + parameters["projector"]
    assert 0 < parameters["percent"] < 100
    assert record.time["steps"] == 8
    assert record.memory["phases"]["train"]["allocated"] is None
    assert record.memory["phases"]["train"]["host_rss"] > 0
    analytic = record.memory["analytic"]
    assert analytic["trainable"] == 4 * parameters["trainable"] == analytic["gradients"]
    assert analytic["weights"] >= 4 * parameters["total"]
    assert analytic["optimizer"] >= 2 * analytic["trainable"]
    assert analytic["activations"] > 0
    assert record.data["synthetic"] is True
    assert record.segments[-1]["end_step"] == 8
    assert not folder.checkpoint.exists()
    assert sum(p.numel() for p in load_file(folder.weights).values()) == parameters["trainable"]
    assert [row["step"] for row in read_json_lines(folder.curve)] == list(range(1, 9))
    assert events[0].kind == "start"
    assert events[-1].kind == "end"


def test_kept_predictions_give_the_same_scores_again(execution: Execution, tmp_path: Path) -> None:
    run = make("video-text")
    record = run_one(run, execution, tmp_path)
    for task in run.task_list:
        folder = RunDir(tmp_path, run.id)
        score, examples = score_rows(task, folder.read_predictions(task.name), task.report_split)
        assert score == record.scores[task.name]
        assert score.edition == task.metric_edition
        assert examples == folder.read_scores(task.name)
        assert examples is not None and len(examples.scores) == score.n
        assert sum(examples.scores) / score.n == pytest.approx(score.value, abs=0.01)


def test_a_broken_metric_loses_no_other_score(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(references: object, predictions: object) -> dict[str, float]:
        raise RuntimeError("no Java")

    monkeypatch.setattr("bench.tasks.video.tokenize_captions", broken)
    record = run_one(make("video-text"), execution, tmp_path)
    assert record.status == "done"
    assert {name: score.status for name, score in record.scores.items()} == {
        "tvqa": "done",
        "how2qa": "done",
        "tvc": "failed",
        "yc2c": "failed",
    }
    assert "no Java" in (record.scores["tvc"].error or "")
    frame = records.load_frame(tmp_path).set_index("task")
    assert frame.loc["tvqa", "status"] == "done"
    assert frame.loc["tvc", "status"] == "failed"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (train.NotFinite("nan"), "nan"),
        (TimeoutError("too slow"), "timeout"),
        (ValueError("bug"), "error"),
    ],
)
def test_a_failure_is_recorded_with_its_cause(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str
) -> None:
    def failing(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(micro_batches, "batch_loss", failing)
    run = make()
    record = run_one(run, execution, tmp_path)
    assert (record.status, record.cause) == ("failed", cause)
    assert record.error is not None
    assert record.error.phase == "train"
    assert str(error) in record.error.tail[-1]
    assert RunDir(tmp_path, run.id).read() == record


def test_a_loss_that_is_not_finite_ends_the_run_as_nan(execution: Execution, tmp_path: Path) -> None:
    record = run_one(make(lr=1e30, clip=0.0, warmup=0.0, method="full"), execution, tmp_path)
    assert (record.status, record.cause) == ("failed", "nan")
    assert record.error is not None
    assert "task" in record.error.message


def test_the_same_run_twice_gives_the_same_weights_and_another_seed_others(
    execution: Execution, tmp_path: Path
) -> None:
    run = make(steps=4)
    for name in ("a", "b"):
        run_one(run, execution, tmp_path / name)
    other = run.model_copy(update={"seed": 2})
    run_one(other, execution, tmp_path / "a")
    a, b, c = (
        load_file(RunDir(tmp_path / name, item.id).weights) for name, item in (("a", run), ("b", run), ("a", other))
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_a_blind_run_sees_nothing(execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest: list[float] = []
    encode = stages.backbones.VLModel.encode

    def spy(
        self: object, input_ids: torch.Tensor, vis_feats: torch.Tensor, boxes: torch.Tensor | None = None
    ) -> object:
        largest.append(vis_feats.abs().max().item())
        return encode(self, input_ids, vis_feats, boxes)

    monkeypatch.setattr(stages.backbones.VLModel, "encode", spy)
    run_one(make(steps=2, visual="zero"), execution, tmp_path)
    assert largest
    assert max(largest) == 0.0


def test_best_epoch_is_selected_by_the_validation_mean(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(stages, "validate", lambda *inputs: next(means))
    run = resolve(
        "mini-bart",
        "vl-pet-small",
        "video-text",
        settings={
            **{k: v for k, v in SETTINGS.items() if k != "steps"},
            "batch_size": 24,
            "validate": "epoch",
            "select": "best",
        },
    )
    recipe = run.recipe.model_copy(update={"steps": None, "epochs": 3})
    run = run.model_copy(update={"recipe": recipe})
    record = run_one(run, execution, tmp_path)
    selected = json.loads((RunDir(tmp_path, run.id).record).read_text())["selected"]
    assert selected["mean"] == 3.0
    assert selected["step"] == record.time["steps"] * 2 // 3


def test_memory_that_does_not_suffice_is_in_the_record(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = micro_batches.batch_loss

    def limited(model: Any, batch: Any, *inputs: Any, **options: Any) -> Any:
        if len(batch.ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch, *inputs, **options)

    monkeypatch.setattr(micro_batches, "batch_loss", limited)
    record = run_one(make(), execution, tmp_path)
    assert record.status == "done"
    assert record.environment["micro_batch"] == 1
    assert any("memory did not suffice" in note for note in record.notes)
    monkeypatch.setattr(micro_batches, "batch_loss", real)
    split = run_one(make(), execution.model_copy(update={"micro_batch": 1}), tmp_path / "asked")
    assert {n: s.value for n, s in split.scores.items()} == {n: s.value for n, s in record.scores.items()}


def test_losses_that_are_read_later_come_in_order_and_a_nan_names_its_step() -> None:
    done, points = train.Trained(), []
    losses = train.UnreadLosses(torch.device("meta"), done, lambda step, point: points.append((step, point["loss"])))
    for step, loss in enumerate([1.0, 2.0, 3.0, float("nan"), 5.0], start=1):
        losses.add(torch.tensor(loss), {"task": f"task {step}", "lr": 0.1, "examples": 1})
        if step == 2:
            losses.read()
    with pytest.raises(train.NotFinite, match="task 4 is nan at step 4"):
        losses.read()
    assert points == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert len(done.step_seconds) == 3


def test_a_run_that_tunes_reads_no_reported_split_and_is_in_no_table(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GQA is tuned on held-out training images; at every epoch too, although its official validation split is there."""
    gqa = tasks.get("gqa")
    reading: list[str] = []

    def read(root: Path, split: str) -> list[tasks.Example]:
        reading.append(split)
        return gqa.read(root, split)

    monkeypatch.setattr(Run, "task_list", property(lambda self: [replace(gqa, read=read)]))
    settings = {"steps": 2, "evaluate": "tuning", "validate": "epoch", "select": "best"}
    record = run_one(
        resolve("mini-bart", "lora", "image-text", task_names=("gqa",), settings=settings), execution, tmp_path
    )
    assert record.status == "done" and record.scores["gqa"].split == "held out of train"
    assert set(reading) == {"train"}
    uninterrupted, kept = len(gqa.read(execution.data["mini"], "train")), record.data["counts"]["gqa"]
    assert record.scores["gqa"].n == uninterrupted - kept > 0
    assert records.load_frame(tmp_path).empty
    assert len(records.load_frame(tmp_path, tuning=True)) == 1


def test_a_limited_run_is_marked(execution: Execution, tmp_path: Path) -> None:
    record = run_one(make(steps=1, limit=3), execution, tmp_path)
    assert record.limited
    assert record.data["counts"] == {"tvqa": 3, "how2qa": 3, "tvc": 3, "yc2c": 3}
    assert bool(records.load_frame(tmp_path)["limited"].all())
