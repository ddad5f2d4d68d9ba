"""Scores of single examples from kept predictions."""

from pathlib import Path

import fake_runs
import pytest

from bench.config import Run, resolve
from bench.example_scores import example_scores
from bench.record_schema import Record, Score
from bench.run_dir import RunDir

ROWS = [{"id": f"q{i}", "prediction": "yes", "reference": {"yes": 1.0} if i < 3 else {"no": 1.0}} for i in range(4)]


def kept(results: Path, seed: int, score: float, rows: list[dict] = ROWS) -> Run:
    run = resolve("mini-bart", "lora", "image-text", seed=seed, tasks_=("gqa",))
    folder = RunDir(results, run.id)
    folder.begin(run)
    folder.weights.write_bytes(fake_runs.WEIGHTS)
    folder.write_predictions("gqa", rows)
    done = Score(status="done", split="validation", metric="accuracy", metrics={"accuracy": score}, n=4)
    folder.finish(Record.model_validate({"id": run.id, "run": run, "status": "done", "scores": {"gqa": done}}))
    return run


def test_every_example_has_its_score_by_its_id(tmp_path: Path) -> None:
    one, two = kept(tmp_path, 1, 75.0), kept(tmp_path, 2, 75.0, ROWS[::-1])
    found = example_scores(tmp_path, [one.id, two.id, "no-such-run"])
    assert found[one.id]["gqa"].to_dict() == {"q0": 100.0, "q1": 100.0, "q2": 100.0, "q3": 0.0}
    assert found[two.id]["gqa"].to_dict() == found[one.id]["gqa"].to_dict()
    assert set(found) == {one.id, two.id}


def test_a_score_that_is_no_mean_over_examples_is_not_taken_apart(tmp_path: Path) -> None:
    assert example_scores(tmp_path, [kept(tmp_path, 1, 74.0).id]) == {}


@pytest.mark.parametrize("content", [b"", b"no gzip"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: bytes) -> None:
    one, two = kept(tmp_path, 1, 75.0), kept(tmp_path, 2, 75.0)
    RunDir(tmp_path, one.id).predictions("gqa").write_bytes(content)
    assert set(example_scores(tmp_path, [one.id, two.id])) == {two.id}
