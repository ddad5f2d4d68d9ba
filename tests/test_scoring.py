"""``score``: what it writes, what it keeps, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import tasks
from bench.cli import main
from bench.metrics import caption, java_tools
from bench.record_schema import Record, Score
from bench.run_dir import RunDir
from bench.scoring import replace_score

FIXTURES = Path(__file__).parent / "fixtures"
RUN = "ia3-mini-t5-image-text-s1-bc0a1e5d"


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    """A run that an earlier version left, without scores of single examples."""
    return RunDir(Path(shutil.copytree(FIXTURES / "old_results", tmp_path / "results")), RUN)


def score(folder: RunDir, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]], str]:
    """Score the run again; return exit code, rows and messages."""
    code = main(["score", RUN, "--results", str(folder.path.parents[1]), "--format", "json", *words])
    output = capsys.readouterr()
    return code, json.loads(output.out), output.err


def read(folder: RunDir) -> Record:
    record = folder.read()
    assert record is not None
    return record


def change(folder: RunDir, task: str, **fields: Any) -> Record:
    """Change a score in the record and return the record."""
    record = read(folder)
    changed = record.scores[task].model_copy(update=fields)
    folder.finish(record.model_copy(update={"scores": record.scores | {task: changed}}))
    return read(folder)


def test_an_older_run_gets_scores_of_examples_and_editions(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = read(folder)
    code, rows, _ = score(folder, capsys=capsys)
    assert (code, [row["status"] for row in rows]) == (0, ["done"] * 4)
    for name, current in read(folder).scores.items():
        metrics = {**before.scores[name].metrics, **current.metrics}  # newer versions have more, and the same
        added = {"edition": tasks.get(name).metric_edition, "rows": current.rows, "metrics": metrics}
        assert current.rows and current == before.scores[name].model_copy(update=added)
        examples = folder.read_scores(name)
        assert examples is not None and len(examples.ids) == len(examples.scores) == 20
        assert sum(examples.scores) / 20 == pytest.approx(current.value, abs=0.01)
    content = folder.record.read_bytes()
    assert score(folder, capsys=capsys)[0] == 0
    assert folder.record.read_bytes() == content


def test_a_score_that_changes_is_kept_in_the_history(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "gqa", metrics={"accuracy": 12.0}, edition="an older one")
    code, rows, _ = score(folder, "--task", "gqa", capsys=capsys)
    assert (code, rows[0]["before"], rows[0]["score"]) == (0, 12.0, 40.0)
    current = read(folder).scores["gqa"]
    (earlier,) = current.history
    assert (earlier.metrics, earlier.edition, earlier.reason) == ({"accuracy": 12.0}, "an older one", "scored again")
    assert earlier.replaced_at and "git_commit" in earlier.replaced_by
    assert (current.value, current.edition) == (40.0, "exact match")


def test_metrics_on_request_are_added_and_stay(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(caption.SLOW_METRICS, "METEOR", lambda references, predictions: len(references) / 100)
    assert score(folder, "--metrics", "METEOR", capsys=capsys)[0] == 0
    current = read(folder).scores["caption"]
    assert current.metrics["METEOR"] == 20.0 and not current.history
    assert score(folder, capsys=capsys)[0] == 0
    assert read(folder).scores["caption"] == current
    assert main(["show", RUN, "--task", "caption", "--results", str(folder.path.parents[1])]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("METEOR", "BLEU-1", "ROUGE-L"))


def test_a_metric_that_cannot_be_computed_adds_nothing(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read(folder).scores["caption"]
    monkeypatch.setattr(java_tools, "SPICE_MODELS", ("nowhere.jar",))
    code, rows, messages = score(folder, "--task", "caption", "--metrics", "SPICE", capsys=capsys)
    assert (code, rows[0]["status"], rows[0]["score"]) == (1, "failed", before.value)
    assert "caption keeps its score: UsageError: SPICE needs nowhere.jar in" in messages
    assert read(folder).scores["caption"] == before


def test_a_failure_or_another_number_of_examples_replaces_no_score(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read(folder).scores
    folder.write_predictions("gqa", folder.read_predictions("gqa")[:-1])
    folder.predictions("nlvr").write_bytes(b"torn")
    monkeypatch.setattr("bench.tasks.caption.caption_scores", lambda *inputs: 1 / 0)
    code, rows, messages = score(folder, capsys=capsys)
    assert code == 1
    states = {row["task"]: row["status"] for row in rows}
    assert states == {"vqa": "done", "gqa": "refused", "nlvr": "corrupt", "caption": "failed"}
    assert "gqa.jsonl.gz: there are predictions for 19 examples, it was computed from 20" in messages
    assert "caption keeps its score: ZeroDivisionError" in messages
    current = read(folder).scores
    assert {name: current[name] for name in ("gqa", "nlvr", "caption")} == {
        name: before[name] for name in ("gqa", "nlvr", "caption")
    }
    assert not folder.scores("gqa").exists()


def test_a_failed_score_is_replaced_and_kept(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "caption", status="failed", metrics={}, error="no Java")
    assert score(folder, "--task", "caption", capsys=capsys)[0] == 0
    current = read(folder).scores["caption"]
    assert current.status == "done"
    assert [earlier.error for earlier in current.history] == ["no Java"]


def test_histories_grow() -> None:
    def made(value: float, edition: str | None) -> Score:
        return Score(status="done", split="test", metric="m", metrics={"m": value}, n=3, edition=edition)

    current = made(1, None)
    for value, edition in [(1, "a"), (1, "a"), (1, "b"), (2, "b")]:
        current = replace_score(current, made(value, edition), "today", {"git_commit": "c"}, "scored again")
    assert [(earlier.metrics["m"], earlier.edition) for earlier in current.history] == [(1, "a"), (1, "b")]
    assert current.metrics == {"m": 2}


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda rows: rows[: len(rows) // 2], "predictions for 10 examples, it was computed from 20"),
        (lambda rows: [], "predictions for 0 examples"),
        (lambda rows: [*rows, *rows], "predictions for 40 examples"),
        (lambda rows: [row | {"reference": 5} for row in rows], "not those that it was computed from"),
        (lambda rows: [row | {"prediction": "x"} for row in rows], "not those that it was computed from"),
        (lambda rows: [row | {"id": "same"} for row in rows], "not those that it was computed from"),
        (lambda rows: rows[::-1], "not those that it was computed from"),
    ],
)
def test_other_predictions_than_those_that_were_scored_replace_no_score(
    edit: Callable[[list[Any]], list[Any]], fault: str, folder: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(folder, "--task", "gqa", capsys=capsys)[0] == 0
    content, scores = folder.record.read_bytes(), folder.scores("gqa").read_bytes()
    folder.write_predictions("gqa", edit(folder.read_predictions("gqa")))
    code, _, messages = score(folder, "--task", "gqa", capsys=capsys)
    assert code == 1 and fault in messages and "gqa.jsonl.gz" in messages
    assert (folder.record.read_bytes(), folder.scores("gqa").read_bytes()) == (content, scores)


def test_ids_are_compared_with_those_of_the_scores(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    score(folder, "--task", "gqa", capsys=capsys)
    change(folder, "gqa", rows=None)  # as an earlier version left it
    rows = folder.read_predictions("gqa")
    folder.write_predictions("gqa", [row | {"id": f"other-{row['id']}"} for row in rows])
    code, _, messages = score(folder, "--task", "gqa", capsys=capsys)
    assert code == 1 and "of other examples" in messages
