"""``score --predictions``: anybody's file against a data root, or one error that counts and names what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import tasks
from bench.cli import main
from bench.tasks.prediction_files import OWN, distinct


def score(task: str, file: Path, root: Path, *words: str) -> int:
    return main(["score", "--task", task, "--predictions", str(file), "--data", f"mine={root}", *words])


def right_answers(name: str, root: Path) -> tuple[list[tasks.Example], list[str]]:
    """The examples of the reported split, and for each its best answer; of a clip that of its first description."""
    task = tasks.get(name)
    examples = task.read(root, task.report_split)
    best: dict[str, str] = {}
    assert task.file_format
    for example in examples:
        best.setdefault(task.file_format.key(example), max(example.answers, key=lambda answer: answer[1])[0])
    return examples, [best[task.file_format.key(example)] for example in examples]


@pytest.mark.parametrize("name", tasks.names())
def test_a_file_of_every_form_gets_the_scores_that_a_run_gets(
    name: str, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tasks.get(name)
    examples, answers = right_answers(name, tiny_root)
    assert task.file_format
    outputs = []
    for form in (task.file_format, OWN):
        file = tmp_path / f"predictions{form.suffix}"
        file.write_text(distinct(form, examples, answers))
        assert score(name, file, tiny_root, "--format", "json") == 0
        outputs.append(json.loads(capsys.readouterr().out))
    expected = task.score(examples, answers)
    for output in outputs:
        assert output["metrics"] == expected.metrics
        assert output["examples"] == dict(zip([e.id for e in examples], expected.examples, strict=True))
        assert (output["split"], output["n"], output["edition"]) == (
            task.report_split,
            len(examples),
            task.metric_edition,
        )


def test_scores_of_examples_are_written_once(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, answers = right_answers("nlvr", tiny_root)
    file, out = tmp_path / "said.csv", tmp_path / "scores" / "nlvr.json"
    file.write_text(distinct(tasks.get("nlvr").file_format, examples, answers))  # type: ignore[arg-type]
    for _ in range(2):
        assert score("nlvr", file, tiny_root, "--out", str(out)) == 0
    assert "accuracy" in capsys.readouterr().out
    assert set(json.loads(out.read_text())["examples"].values()) == {100.0}
    out.write_text("mine")
    assert score("nlvr", file, tiny_root, "--out", str(out)) == 2
    assert "nlvr.json: is there already, with other content" in capsys.readouterr().err
    assert out.read_text() == "mine"


def entries_of(root: Path) -> list[dict[str, Any]]:
    return [{"questionId": e.id, "prediction": "no"} for e in tasks.get("gqa").read(root, "validation")]


def test_missing_repeated_and_unknown_ids_are_counted_and_named(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = entries_of(tiny_root)
    file = tmp_path / "gqa.json"
    changed = [*entries[7:], entries[-1], {"questionId": "x1", "prediction": "no"}]
    file.write_text(json.dumps(changed))
    assert score("gqa", file, tiny_root) == 2
    message = capsys.readouterr().err
    names = ", ".join(entry["questionId"] for entry in entries[:5])
    assert f"for gqa validation it lacks 7 of the {len(entries)} ids ({names}, ...)" in message
    assert f"has 1 ids that are none of them (x1), has 1 ids more than once ({entries[-1]['questionId']})" in message


def test_a_question_that_stands_twice_in_an_object_is_seen(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [example.id for example in tasks.get("tvqa").read(tiny_root, "validation")]
    (tmp_path / "file").write_text("{" + ", ".join(f'"{key}": 1' for key in [*ids, ids[0]]) + "}")
    assert score("tvqa", tmp_path / "file", tiny_root) == 2
    assert f"has 1 ids more than once ({ids[0]})" in capsys.readouterr().err


def test_a_file_of_another_task_or_split_is_recognised(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text(json.dumps(entries_of(tiny_root)))
    assert score("vqa", file, tiny_root) == 2
    assert "is GQA result JSON, the form of gqa; vqa takes VQA result JSON or JSONL" in capsys.readouterr().err
    examples = tasks.get("tvqa").read(tiny_root, "test")
    file.write_text(json.dumps({example.id: 1 for example in examples}))
    assert score("tvqa", file, tiny_root) == 2
    assert "they are the ids of tvqa test" in capsys.readouterr().err
    examples = tasks.get("caption").read(tiny_root, "validation")
    file.write_text(distinct(OWN, examples, ["a dog"] * len(examples)))
    assert score("nlvr", file, tiny_root) == 2
    assert "they are the ids of caption validation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--predictions", "f"], "say of which task it is with --task T"),
        (["--predictions", "f", "--task", "vqaa"], "unknown task 'vqaa'; did you mean 'vqa'"),
        (["--predictions", "f", "--task", "vqa"], "name the data root with --data NAME=PATH"),
        (["--predictions", "f", "--task", "vqa", "--data", "x=/nowhere"], "no such folder"),
        (["--predictions", "f", "--task", "vqa", "--all"], "leave the run out"),
        (
            ["--predictions", "f", "--task", "vqa", "--data", "mini", "--split", "test-dev"],
            "its answers are not public",
        ),
        (["--predictions", "f", "--task", "vqa", "--data", "mini", "--split", "tset"], "unknown split of vqa 'tset'"),
        (["--predictions", "f", "--task", "vqa", "--data", "mini"], "f: no such file"),
        (["--all", "--out", "x"], "--out belongs to --predictions"),
        (["--all", "--metrics", "METEER"], "unknown metric on request of the tasks 'METEER'; did you mean 'METEOR'"),
        (["--all", "--metrics", "METEOR", "--task", "vqa"], "unknown metric on request of vqa 'METEOR'"),
        ([], "say which run to score, or --all, or a file"),
    ],
)
def test_a_wrong_call_is_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["score", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_split_without_answers_cannot_be_scored(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = tasks.get("tvqa").read(tiny_root, "test")
    (tmp_path / "file").write_text(json.dumps({example.id: 1 for example in examples}))
    assert score("tvqa", tmp_path / "file", tiny_root, "--split", "test") == 2
    assert "cannot be scored on tvqa test: UsageError: no public answers" in capsys.readouterr().err


def test_the_published_results_get_the_published_scores(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NLVR2 with the official metrics of this file: accuracy 0.5, consistency 0.0344827586."""
    (tmp_path / "nlvr").mkdir()
    (tmp_path / "nlvr/valid.json").symlink_to(shared / "real/nlvr2/lxmert_valid.head200.json")
    words = ("--split", "validation", "--format", "json")
    assert score("nlvr", shared / "real/nlvr2/dev.head200.predictions.csv", tmp_path, *words) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics == {"accuracy": 50.0, "consistency": pytest.approx(3.44827586)}
