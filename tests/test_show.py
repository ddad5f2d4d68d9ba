"""``show``: a run that failed, a run that is done, a task, one example, and names that are nearly right."""

import json
import shutil
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from bench.cli import main
from bench.config import Run, resolve
from bench.fingerprints import annotation_digests, overall
from bench.record_schema import Record
from bench.run_dir import RunDir

FIXTURES = Path(__file__).parent / "fixtures"
DONE, FAILED = "ia3-mini-t5-image-text-s1-bc0a1e5d", "ia3-mini-t5-image-text-s1-e6f69a79"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of an earlier version: a run that is done, and one that failed."""
    return Path(shutil.copytree(FIXTURES / "old_results", tmp_path / "results"))


def show(results: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["show", *words, "--results", str(results), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_failed_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = show(results, FAILED, capsys=capsys)
    assert (run["state"], run["note"], run["scores"]) == ("failed", "nan", [])
    assert run["changed"] == {"steps": 3, "lr": 1e30, "warmup": 0.0, "clip": 0.0, "limit": 6}
    assert run["recipe"]["batch_size"] == 32 and "lr" not in run["recipe"]
    failure = run["failure"]
    assert (failure["cause"], failure["phase"], failure["step"], failure["type"]) == ("nan", "train", 2, "NotFinite")
    assert "NotFinite" in failure["tail"][-1]
    assert f"retry SWEEP --run {FAILED}" in failure["retry"]
    assert {"log.txt", "record.json", "attempts/1.json"} <= set(run["files"])
    assert main(["show", FAILED, "--results", str(results)]) == 0
    text = capsys.readouterr().out
    for part in ("failed (nan)", "the loss of task vqa is nan", "lr      1e+30", "try again", "log.txt"):
        assert part in text


def test_a_run_that_is_done_by_the_beginning_of_its_id(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = show(results, DONE[:-5], capsys=capsys)
    assert (run["run"], run["state"], run["failure"]) == (DONE, "done", None)
    assert [score["task"] for score in run["scores"]] == run["tasks"] == ["vqa", "gqa", "nlvr", "caption"]
    assert all(score["n"] == 20 and score["edition"] is None and score["history"] == [] for score in run["scores"])
    assert run["parameters"]["trainable"] == 7392
    assert run["memory"]["analytic"]["trainable"] == 4 * 7392
    assert run["environment"]["torch"]
    assert run["folder"] == str(results / "runs" / DONE)
    assert main(["show", DONE, "--results", str(results)]) == 0
    text = capsys.readouterr().out
    for part in (f"{DONE}: done", "50.5000", "7392", "train_seconds", "record.json"):
        assert part in text


def test_a_run_without_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = resolve("mini-bart", "lora", "image-text", settings={"rank": 8})
    RunDir(tmp_path, run.id).begin(run)
    content = show(tmp_path, run.id, capsys=capsys)
    assert (content["state"], content["changed"], content["scores"]) == ("interrupted", {"rank": 8}, [])


def test_a_task_with_its_best_and_worst_examples(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = show(results, DONE, "--task", "gqa", capsys=capsys)
    assert (before["score"], before["examples"], before["best"]) == (40.0, 20, [])
    assert "score" in before["note"]
    assert main(["score", DONE, "--task", "gqa", "--results", str(results)]) == 0
    capsys.readouterr()
    task = show(results, DONE, "--task", "gqa", capsys=capsys)
    assert (task["metric"], task["edition"], task["metrics"], task["note"]) == (
        "accuracy",
        "exact match",
        {"accuracy": 40.0},
        "",
    )
    assert [row["score"] for row in task["best"]] == [100.0] * 3
    assert [row["score"] for row in task["worst"]] == [0.0] * 3
    assert all(row["prediction"] in row["reference"] for row in task["best"])
    assert main(["show", DONE, "--task", "gqa", "--results", str(results)]) == 0
    assert "worst examples" in capsys.readouterr().out


def evaluated(results: Path, root: Path) -> tuple[Run, dict[str, Any]]:
    """Write a run that was evaluated on the first example of GQA in ``root``, and return it with that example."""
    from bench import tasks
    from bench.record_schema import Score
    from bench.scoring import score_rows

    run = resolve("mini-bart", "lora", "image-text", task_names=("gqa",))
    task, folder = tasks.get("gqa"), RunDir(results, run.id)
    example = task.read(root, task.report_split)[0]
    rows = [{"id": example.id, "prediction": "a zebra", "reference": example.reference}]
    folder.begin(run)
    folder.weights.write_bytes(fake_runs.WEIGHTS)
    folder.write_predictions("gqa", rows)
    score, examples = score_rows(task, rows, task.report_split)
    assert examples is not None
    folder.write_scores("gqa", examples)
    data = {"root": str(root), "fingerprint": overall(annotation_digests(root, run.suite))}
    scores: dict[str, Score] = {"gqa": score}
    folder.finish(Record(id=run.id, run=run, status="done", scores=scores, data=data))
    return run, {"id": example.id, "source": task.source(example, True), "reference": example.reference}


def test_one_example(tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, wanted = evaluated(tmp_path, tiny_root)
    words = (run.id, "--task", "gqa", "--example", wanted["id"])
    example = show(tmp_path, *words, capsys=capsys)
    assert {key: example[key] for key in wanted} == wanted
    assert (example["prediction"], example["score"], example["note"]) == ("a zebra", 0.0, "")
    assert (tiny_root / example["visual"][0]).parent.parent.is_dir()
    assert main(["show", *words, "--results", str(tmp_path)]) == 0
    assert wanted["source"] in capsys.readouterr().out


def test_an_example_whose_data_root_is_gone_or_another(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, wanted = evaluated(tmp_path, tiny_root)
    folder = RunDir(tmp_path, run.id)
    record = folder.read()
    assert record is not None
    words = (run.id, "--task", "gqa", "--example", wanted["id"])
    folder.finish(record.model_copy(update={"data": record.data | {"root": "/no/such/root"}}))
    example = show(tmp_path, *words, capsys=capsys)
    assert (example["source"], example["prediction"]) == (None, "a zebra")
    assert "/no/such/root is not there" in example["note"] and "--data mini=PATH" in example["note"]
    example = show(tmp_path, *words, "--data", f"mini={tiny_root}", capsys=capsys)
    assert (example["source"], example["note"]) == (wanted["source"], "")
    folder.finish(record.model_copy(update={"data": record.data | {"fingerprint": "another"}}))
    assert "not those that the run was evaluated on" in show(tmp_path, *words, capsys=capsys)["note"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["ia3-mini-t5-imag-text"], "did you mean"),
        (["ia3"], "3 runs are called so"),
        (["zzz"], "`python -m bench status` lists them"),
        ([DONE, "--task", "vqaa"], "did you mean 'vqa'"),
        ([DONE, "--task", "vqa", "--example", "55000"], "did you mean '550001'"),
        ([DONE, "--task", "vqa", "--example", "nothing"], "unknown example of vqa 'nothing'"),
        ([DONE, "--example", "1"], "--task"),
        ([FAILED, "--task", "vqa"], "no predictions of vqa"),
    ],
)
def test_unknown_names(results: Path, words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *words, "--results", str(results)]) == 2
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1
