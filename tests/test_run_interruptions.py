"""run_one after an interruption: the same weights, and nothing lost to a full disk or other surroundings."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import make

from bench import run_data, stages
from bench.config import Execution
from bench.errors import UsageError
from bench.events import RunEvent
from bench.files import read_json_lines
from bench.run import run_one
from bench.run_context import RunContext
from bench.run_dir import RunDir
from bench.surroundings import SurroundingsFault


@pytest.fixture
def execution(tiny_root: Path) -> Execution:
    return Execution(device="cpu", data={"mini": tiny_root})


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
