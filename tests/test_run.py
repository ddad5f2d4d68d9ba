"""run_one: real runs of a tiny size, their records, their failures, and their continuation after an interruption."""

import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors.torch import load_file

from bench import micro_batches, records, run_data, stages, tasks, train
from bench.config import Execution, Run, resolve
from bench.errors import UsageError
from bench.events import RunEvent
from bench.files import read_json_lines
from bench.run import run_one
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.scoring import score_rows
from bench.surroundings import SurroundingsFault

SETTINGS = {
    "steps": 8,
    "batch_size": 4,
    "checkpoint_every": 3,
    "beams": 2,
    "n_boxes": 9,
    "n_frames": 8,
    "recipe.dropout": 0.1,
}


@pytest.fixture
def execution(tiny_root: Path) -> Execution:
    return Execution(device="cpu", data={"mini": tiny_root})


def make(suite: str = "video-text", method: str = "vl-pet-large", **settings: object) -> Run:
    return resolve("mini-bart", method, suite, settings={**SETTINGS, **settings})


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


@pytest.mark.parametrize(
    "method, options",
    [
        ("vl-pet-large", {}),
        ("peft:adalora", {"every": 1, "final": 0.3}),
        ("adamix", {}),
        ("grasp-vl", {"lengths": [4, 8, 16]}),
    ],
)
def test_an_interrupted_run_continues_to_the_very_same_weights(
    execution: Execution, tmp_path: Path, method: str, options: dict[str, object]
) -> None:
    """Also where the method counts along the way (AdaLoRA, what it will prune) or draws (AdaMix its experts, GraSP-VL
    its prefix)."""
    run = make("image-text", method, **{"recipe.dropout": 0.2}, **options)
    uninterrupted = run_one(run, execution, tmp_path / "whole")

    def stop_at_5(event: RunEvent) -> None:
        if event.kind == "step" and event.step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_one(run, execution, tmp_path / "parts", stop_at_5)
    folder = RunDir(tmp_path / "parts", run.id)
    assert folder.read() is None
    assert folder.checkpoint.exists()
    resumed = run_one(run, execution, tmp_path / "parts")
    assert [(s["start_step"], s["end_step"]) for s in resumed.segments] == [(0, 5), (5, 8)]
    assert resumed.segments[0]["reason"] == "SIGINT"
    ours, theirs = load_file(folder.weights), load_file(RunDir(tmp_path / "whole", run.id).weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert {n: s.metrics for n, s in resumed.scores.items()} == {n: s.metrics for n, s in uninterrupted.scores.items()}
    assert [row["step"] for row in read_json_lines(folder.curve)] == list(range(1, 9))


def test_a_killed_run_continues_from_its_last_periodic_checkpoint(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Like kill -9: nothing of the run's own clean-up may happen after it."""

    def die_at_5(event: RunEvent) -> None:
        if event.kind == "step" and event.step == 5:
            raise Killed

    run = make(method="lora")
    uninterrupted = run_one(run, execution, tmp_path / "whole")
    with pytest.raises(Killed):
        run_one(run, execution, tmp_path / "parts", die_at_5)
    resumed = run_one(run, execution, tmp_path / "parts")
    assert [(s["start_step"], s["end_step"], s["reason"]) for s in resumed.segments] == [
        (0, 3, "killed"),
        (3, 8, "done"),
    ]
    assert [row["step"] for row in read_json_lines(RunDir(tmp_path / "parts", run.id).curve)] == list(range(1, 9))
    assert {n: s.metrics for n, s in resumed.scores.items()} == {n: s.metrics for n, s in uninterrupted.scores.items()}


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


def test_a_validation_that_was_interrupted_is_made_when_the_run_goes_on(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 24, "validate": "epoch", "select": "best", "limit": 24, "steps": 10}
    run = make("image-text", **settings)
    whole = run_one(run, execution, tmp_path / "undisturbed")
    real, calls = stages.validate, []

    def interrupted(context: RunContext, *inputs: Any) -> float:
        calls.append(context.step)
        if len(calls) == 1:
            raise KeyboardInterrupt("SIGTERM")
        return real(context, *inputs)

    monkeypatch.setattr(stages, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_one(run, execution, tmp_path)
    again = run_one(run, execution, tmp_path)
    folders = [RunDir(results, run.id) for results in (tmp_path / "undisturbed", tmp_path)]
    one, other = (read_json_lines(folder.validation, ("step",)) for folder in folders)
    assert one == other and len(one) == 2
    assert again.selected == whole.selected
    assert {name: score.value for name, score in again.scores.items()} == {
        name: score.value for name, score in whole.scores.items()
    }


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


def test_the_checkpoint_of_another_seed_is_put_aside(execution: Execution, tmp_path: Path) -> None:
    def stop(event: RunEvent) -> None:
        if event.kind == "step" and event.step == 5:
            raise KeyboardInterrupt("stop")

    first, second = make(), make().model_copy(update={"seed": 2})
    for run in (first, second):
        with pytest.raises(KeyboardInterrupt):
            run_one(run, execution, tmp_path / "stopped", stop)
    folders = [RunDir(tmp_path / "stopped", run.id) for run in (first, second)]
    folders[0].checkpoint.write_bytes(folders[1].checkpoint.read_bytes())
    events: list[RunEvent] = []
    record = run_one(first, execution, tmp_path / "stopped", events.append)
    whole = run_one(first, execution, tmp_path / "whole")
    tensors, expected = (load_file(RunDir(tmp_path / name, first.id).weights) for name in ("stopped", "whole"))
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert record.segments[-1]["start_step"] == 0 and whole.notes == []
    assert record.notes == [f"checkpoint.pt is of the run {second.id}; it is in attempt-1, and the training began anew"]
    assert any(record.notes[0] in event.message for event in events if event.kind == "note")
    assert (folders[0].path / "attempt-1" / "note.txt").read_text() == record.notes[0] + "\n"


def test_a_full_disk_costs_nothing_but_time(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint does not fit; torch reports that as an error of its own."""
    run, saved, save = make(method="lora"), [], torch.save

    def save_on_a_small_disk(state: dict[str, object], file: IO[bytes]) -> None:
        saved.append(state["step"])
        try:
            if len(saved) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904
        save(state, file)

    monkeypatch.setattr(torch, "save", save_on_a_small_disk)
    with pytest.raises(SurroundingsFault, match=r"the disk is full: make room.*checkpoint\.pt"):
        run_one(run, execution, tmp_path / "small")
    folder = RunDir(tmp_path / "small", run.id)
    assert folder.read() is None and folder.checkpoint.exists()
    assert read_json_lines(folder.segments)[-1]["reason"] == "disk"
    resumed = run_one(run, execution, tmp_path / "small")
    assert resumed.segments[-1]["start_step"] == saved[0] == 3
    uninterrupted = run_one(run, execution, tmp_path / "large")
    assert {n: s.metrics for n, s in resumed.scores.items()} == {n: s.metrics for n, s in uninterrupted.scores.items()}
    assert [row["step"] for row in read_json_lines(folder.curve)] == list(range(1, 9))


def no_memory(*inputs: object, **more: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def no_java(*inputs: object, **more: object) -> None:
    raise UsageError("Java did not run") from FileNotFoundError(errno.ENOENT, "No such file", "java")


def no_permission(*inputs: object, **more: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "features.h5")


@pytest.mark.parametrize(
    ("place", "fault", "advice", "trains_again"),
    [
        ("bench.evaluate.predict", no_memory, "eval_batch_size=N smaller", False),
        ("bench.tasks.video.tokenize_captions", no_java, "a program does not run here: install it", False),
        ("bench.run_data.feature_store", no_permission, "not permitted: have its owner permit it", True),
        ("bench.device.pick", no_memory, "out of memory outside of training", True),
    ],
)
def test_what_is_no_fault_of_the_run_interrupts_it_and_evaluation_alone_is_done_again(
    execution: Execution,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    fault: Callable[..., None],
    advice: str,
    trains_again: bool,
) -> None:
    run_data.tokenized_split.cache_clear()
    run = make(method="lora", steps=3, limit=3, checkpoint_every=0)
    with monkeypatch.context() as patch:
        patch.setattr(place, fault)
        with pytest.raises(SurroundingsFault, match=advice):
            run_one(run, execution, tmp_path)
    assert RunDir(tmp_path, run.id).read() is None
    steps: list[RunEvent] = []
    record = run_one(run, execution, tmp_path, lambda event: steps.append(event) if event.kind == "step" else None)
    assert record.status == "done" and all(score.status == "done" for score in record.scores.values())
    assert bool(steps) == trains_again == ("train" in record.memory["phases"])  # else the peak would say nothing


def test_a_stop_whose_checkpoint_does_not_fit_still_stops(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: RunEvent) -> None:
        if event.kind == "step":
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(torch, "save", no_permission)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM; not permitted"):
        run_one(make(method="lora"), execution, tmp_path, stop)
