"""Raw files of NLVR2 and GQA: recognised where an official one is read, and converted to it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import tasks
from bench.cli import main
from bench.errors import UsageError

NLVR2: dict[str, Any] = {"sentence": "Two dogs.", "identifier": "dev-1-0-0", "label": "True", "writer": "61"}
GQA: dict[str, Any] = {
    "question": "Is it red?",
    "imageId": "2375429",
    "answer": "yes",
    "fullAnswer": "Yes.",
    "groups": {},
}


def lines(*changes: dict[str, Any]) -> str:
    return "".join(
        json.dumps({k: v for k, v in (NLVR2 | change).items() if v is not None}) + "\n" for change in changes
    )


def convert(*words: object) -> int:
    return main(["data", "convert", *map(str, words)])


def test_published_records_become_those_of_lxmert(shared: Path, tmp_path: Path) -> None:
    raw = shared / "real" / "nlvr2"
    assert convert("nlvr2", raw / "dev.head200.json", "--out", tmp_path) == 0
    ours = json.loads((tmp_path / "nlvr" / "valid.json").read_text())
    assert ours == json.loads((raw / "lxmert_valid.head200.json").read_text())


def test_gqa_is_converted_with_its_tables(tiny_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_root, tmp_path / "root"))
    expected = {split: tasks.get("gqa").read(root, split) for split in ("train", "validation")}
    files = {}
    for official, name in (("train", "train"), ("valid", "val"), ("testdev", "testdev")):
        records = json.loads((root / "GQA" / f"{official}.json").read_text())
        raw = {
            str(1000 + number): GQA | {"question": r["sent"], "imageId": r["img_id"], "answer": next(iter(r["label"]))}
            for number, r in enumerate(records)
        }
        files[official] = tmp_path / f"{name}_balanced_questions.json"
        files[official].write_text(json.dumps(raw))
    shutil.rmtree(root / "GQA" / "clip_features")
    shutil.move(root / "GQA", tmp_path / "before")
    assert convert("gqa", *files.values(), "--out", root) == 0
    shutil.copytree(tmp_path / "before", root / "GQA", ignore=shutil.ignore_patterns("*.json"), dirs_exist_ok=True)
    for split, examples in expected.items():
        got = tasks.get("gqa").read(root, split)
        assert [(e.text, e.visual, e.reference) for e in got] == [(e.text, e.visual, e.reference) for e in examples]
    assert convert("gqa", *files.values(), "--out", root) == 0  # the same content is no conflict


def test_raw_files_in_the_place_of_official_ones_are_recognised(tiny_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_root, tmp_path / "root"))
    (root / "nlvr" / "train.json").write_text(lines({"identifier": "train-1-0-0"}))
    with pytest.raises(
        UsageError, match=r"train\.json: has the raw form of NLVR2.*move it out.*convert nlvr2 train.json"
    ):
        tasks.get("nlvr").read(root, "train")
    (root / "nlvr" / "valid.json").rename(root / "nlvr" / "dev.json")
    (root / "nlvr" / "dev.json").write_text(lines({}))
    (root / "nlvr" / "train.json").unlink()
    with pytest.raises(
        UsageError, match=r"dev\.json: has the raw form.*and valid\.json must be a list of records with uid"
    ):
        tasks.get("nlvr").read(root, "validation")
    (root / "GQA" / "testdev.json").write_text(json.dumps({"2": GQA}))
    with pytest.raises(
        UsageError, match=r"testdev\.json: has the raw form of GQA.*bench data convert gqa testdev\.json"
    ):
        tasks.get("gqa").read(root, "validation")


@pytest.mark.parametrize(
    ("form", "name", "content", "message"),
    [
        ("nlvr2", "dev.json", lines({}, {"label": None}), "line 2: key 'label' is missing"),
        ("nlvr2", "dev.json", lines({"label": "maybe"}), "expected 'True' or 'False'"),
        ("nlvr2", "dev.json", lines({"identifier": "test2-1-0-0"}), "'test2-1-0-0', expected one like 'dev-850-0-2'"),
        ("nlvr2", "dev.json", lines({}, {"identifier": "train-1-0-0"}), "of another split than the first record"),
        ("nlvr2", "dev.json", "[1]", "line 1 is list"),
        ("gqa", "testdev_all_questions.json", "{}", "the official runs use the balanced questions"),
        ("gqa", "testdev_balanced_questions.json", "{}", "has no questions"),
        (
            "gqa",
            "testdev_balanced_questions.json",
            json.dumps({"1": GQA | {"answer": " "}}),
            "question 1: key 'answer'",
        ),
        (
            "gqa",
            "val_balanced_questions.json",
            json.dumps({"1": {"question": "?"}}),
            "question 1: key 'answer' is missing",
        ),
        ("gqa", "missing", None, "missing"),
        ("vqa", "x.json", "{}", "say what the files are, nlvr2 or gqa"),
    ],
)
def test_what_cannot_be_converted_is_named_and_nothing_is_written(
    form: str, name: str, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    assert convert(form, file, "--out", tmp_path / "root") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_other_content_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "dev.json"
    raw.write_text(lines({}))
    other = tmp_path / "test1.json"
    other.write_text(lines({"identifier": "test1-1-0-0"}))
    (tmp_path / "root" / "nlvr").mkdir(parents=True)
    (tmp_path / "root" / "nlvr" / "valid.json").write_text("[]")
    assert convert("nlvr2", other, raw, "--out", tmp_path / "root") == 2
    assert "valid.json: is there with other content" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "root" / "nlvr").iterdir()] == ["valid.json"]
    assert convert("nlvr2", raw, raw, "--out", tmp_path / "new") == 2
    assert "another file has the split valid" in capsys.readouterr().err
