"""Scores of single examples, as they stand in the directories of runs."""

import subprocess
import sys
from pathlib import Path

import fake_runs
import pytest

from bench.config import Run, resolve
from bench.example_scores import example_scores, missing_hint
from bench.record_schema import Record, Score
from bench.run_dir import ExampleScores, RunDir

SCORES = {"q0": 100.0, "q1": 100.0, "q2": 100.0, "q3": 0.0}


def write_run(results: Path, seed: int, scores: dict[str, float] | None = None, **changes: object) -> Run:
    run = resolve("mini-bart", "lora", "image-text", seed=seed, task_names=("gqa",))
    folder = RunDir(results, run.id)
    folder.begin(run)
    folder.weights.write_bytes(fake_runs.WEIGHTS)
    if scores is not None:
        content = ExampleScores(metric="accuracy", split="validation", ids=list(scores), scores=list(scores.values()))
        folder.write_scores("gqa", content.model_copy(update=changes))
    done = Score(status="done", split="validation", metric="accuracy", metrics={"accuracy": 75.0}, n=4)
    folder.finish(Record.model_validate({"id": run.id, "run": run, "status": "done", "scores": {"gqa": done}}))
    return run


def test_every_example_has_its_score_by_its_id(tmp_path: Path) -> None:
    first = write_run(tmp_path, 1, SCORES)
    second = write_run(tmp_path, 2, dict(reversed(SCORES.items())))
    scores = example_scores(tmp_path, [first.id, second.id, "no-such-run"])
    assert {run: frame["gqa"].to_dict() for run, frame in scores.items()} == {first.id: SCORES, second.id: SCORES}
    assert missing_hint(tmp_path, [first.id, second.id]) == ""


@pytest.mark.parametrize(
    ("scores", "changes"),
    [(SCORES | {"q3": 100.0}, {}), ({}, {}), (SCORES, {"split": "test"}), (SCORES, {"metric": "CIDEr"})],
    ids=["another mean", "empty", "another split", "another metric"],
)
def test_scores_that_are_not_behind_the_reported_one_are_left_out(
    tmp_path: Path, scores: dict[str, float], changes: dict[str, object]
) -> None:
    assert example_scores(tmp_path, [write_run(tmp_path, 1, scores, **changes).id]) == {}


@pytest.mark.parametrize("content", [b"", b"no gzip"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: bytes) -> None:
    first, second = write_run(tmp_path, 1, SCORES), write_run(tmp_path, 2, SCORES)
    RunDir(tmp_path, first.id).scores("gqa").write_bytes(content)
    assert set(example_scores(tmp_path, [first.id, second.id])) == {second.id}


def test_runs_of_older_versions_are_counted(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, 1), write_run(tmp_path, 2), write_run(tmp_path, 3, SCORES)]
    hint = missing_hint(tmp_path, [run.id for run in runs])
    assert "2 runs have no scores of single examples" in hint and "score --all" in hint
    assert set(example_scores(tmp_path, [run.id for run in runs])) == {runs[2].id}


def test_no_metric_is_needed_to_read_them(repo: Path) -> None:
    code = "import sys, bench.example_scores; sys.exit(any(m.startswith('bench.metrics') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, check=False).returncode == 0
