"""A broken annotation file gives one error that names the file, the record and the key."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import tasks
from bench.errors import UsageError


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the annotations, to be broken."""
    ignore = shutil.ignore_patterns("clip_features", "vis_features")
    return Path(shutil.copytree(tiny_root, tmp_path / "root", ignore=ignore))


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file, or the second record of a JSON lines file."""
    if file.suffix == ".json":
        file.write_text(json.dumps(change(json.loads(file.read_text()))))
    else:
        lines = file.read_text().splitlines()
        lines[1] = json.dumps(change(json.loads(lines[1])))
        file.write_text("\n".join(lines))


def second(key: str, value: Any) -> Callable[[Any], Any]:
    """Set a key of the second record of a list."""
    return lambda records: [records[0], records[1] | {key: value}, *records[2:]]


def lacks(key: str) -> Callable[[Any], Any]:
    """Drop a key of a record, or of the second record of a list."""

    def change(content: Any) -> Any:
        if isinstance(content, dict):
            return {k: v for k, v in content.items() if k != key}
        return [content[0], {k: v for k, v in content[1].items() if k != key}, *content[2:]]

    return change


def field(key: str, value: Any) -> Callable[[Any], Any]:
    return lambda record: record | {key: value}


FILES = {
    "vqa": "vqa/karpathy_val.json",
    "gqa": "GQA/testdev.json",
    "nlvr": "nlvr/valid.json",
    "caption": "COCO/dataset_coco.json",
    "tvqa": "video/ann/tvqa/tvqa_val.jsonl",
    "how2qa": "video/ann/how2qa/how2qa_val_release.jsonl",
    "tvc": "video/ann/tvc/tvc_val_release.jsonl",
    "yc2c": "video/ann/yc2c/yc2c_val_release.jsonl",
}
OTHERS = [
    ("vqa", "vqa/trainval_ans2label.json"),
    ("vqa", "vqa/trainval_label2ans.json"),
    ("vqa", "vqa/v2_mscoco_val2014_annotations.json"),
    ("gqa", "GQA/trainval_label2ans.json"),
    ("tvc", "video/ann/tv_subtitles.jsonl"),
    ("how2qa", "video/ann/how2_subtitles.jsonl"),
    ("yc2c", "video/ann/yc2_subtitles.jsonl"),
]


@pytest.mark.parametrize(("name", "file"), [*FILES.items(), *OTHERS])
def test_a_missing_file_is_named(name: str, file: str, root: Path) -> None:
    (root / file).unlink()
    with pytest.raises(UsageError, match=rf"{re.escape(str(root / file))}: no such file; check the data root"):
        tasks.get(name).read(root, "validation")


@pytest.mark.parametrize(("name", "file"), [*FILES.items(), *OTHERS])
def test_a_truncated_file_is_named(name: str, file: str, root: Path) -> None:
    text = (root / file).read_text()
    (root / file).write_text(text[: len(text) - 3])
    where = "line [0-9]+ is not" if file.endswith("jsonl") else "is not"
    with pytest.raises(UsageError, match=rf"{re.escape(str(root / file))}: {where} valid JSON"):
        tasks.get(name).read(root, "validation")


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_other_encodings_are_an_error(name: str, file: str, root: Path) -> None:
    (root / file).write_bytes(b'[{"sent": "caf\xe9"}]')
    with pytest.raises(UsageError, match=rf"{re.escape(str(root / file))}: .*utf-8"):
        tasks.get(name).read(root, "validation")


MISSING = [
    ("vqa", "question_id", "record 1"),
    ("vqa", "img_id", "record 1"),
    ("vqa", "label", "record 1"),
    ("gqa", "question_id", "record 1"),
    ("gqa", "sent", "record 1"),
    ("gqa", "label", "record 1"),
    ("nlvr", "img1", "record 1"),
    ("nlvr", "label", "record 1"),
    ("nlvr", "identifier", "record 1"),
    ("caption", "images", "the file"),
    ("tvqa", "a4", "line 2"),
    ("tvqa", "ts", "line 2"),
    ("tvqa", "answer_idx", "line 2"),
    ("tvqa", "vid_name", "line 2"),
    ("how2qa", "q", "line 2"),
    ("how2qa", "qid", "line 2"),
    ("tvc", "ts", "line 2"),
    ("tvc", "duration", "line 2"),
    ("tvc", "descs", "line 2"),
    ("yc2c", "vid_name", "line 2"),
]


@pytest.mark.parametrize(("name", "key", "record"), MISSING)
def test_a_missing_key_is_named_with_its_record(name: str, key: str, record: str, root: Path) -> None:
    edit(root / FILES[name], lacks(key))
    with pytest.raises(UsageError, match=rf"{re.escape(str(root / FILES[name]))}: {record}: key '{key}' is missing"):
        tasks.get(name).read(root, "validation")


WRONG = [
    ("vqa", second("sent", 3), r"record 1: key 'sent' is 3, expected str"),
    ("vqa", second("question_id", "7"), r"record 1: key 'question_id' is '7', expected int"),
    ("vqa", second("question_id", True), r"record 1: key 'question_id' is True, expected int"),
    ("vqa", second("label", {"net": "1"}), r"record 1: key 'label': score of 'net' is '1', expected a number"),
    ("vqa", second("label", {"net": -0.3}), r"record 1: key 'label': score of 'net' is -0.3"),
    ("vqa", second("label", {"": 0.3}), r"record 1: key 'label': the empty answer has score 0.3"),
    ("vqa", second("is_topk_optimal", "yes"), r"record 1: key 'is_topk_optimal' is 'yes', expected bool"),
    ("vqa", second("label", ["net"]), r"record 1: key 'label' is \['net'\], expected dict"),
    ("vqa", second("question_id", 1), r"record 1: question_id 1 has no ten answers in v2_mscoco_train2014"),
    ("gqa", lambda records: {"0": records}, r"holds dict, expected a list of records"),
    ("gqa", lambda records: [records[0], "x"], r"record 1 is str, expected an object"),
    ("nlvr", second("label", 2), r"record 1: key 'label' is 2, expected 0 or 1"),
    ("nlvr", second("label", "True"), r"record 1: key 'label' is 'True', expected int"),
    ("nlvr", second("identifier", "dev-1"), r"record 1: key 'identifier' is 'dev-1', expected four fields"),
    ("caption", field("images", {}), r"the file: key 'images' is \{\}, expected list"),
    (
        "caption",
        field("images", [{"split": "val", "filename": "a.jpg", "sentences": [{"tokens": []}]}]),
        r"the file, images\[0\], sentences\[0\]: key 'raw' is missing",
    ),
    ("tvqa", field("answer_idx", 5), r"line 2: key 'answer_idx' is '5', expected 0 to 4"),
    ("tvqa", field("answer_idx", "first"), r"line 2: key 'answer_idx' is 'first', expected 0 to 4"),
    ("tvqa", field("answer_idx", True), r"line 2: key 'answer_idx' is True, expected int or str"),
    ("how2qa", field("answer_idx", 4), r"line 2: key 'answer_idx' is '4', expected 0 to 3"),
    ("tvqa", field("vid_name", "nowhere"), r"line 2: vid_name 'nowhere' has no line in tv_subtitles.jsonl"),
    ("how2qa", field("vid_name", "nowhere"), r"line 2: vid_name 'nowhere' has no line in how2_subtitles.jsonl"),
    ("tvc", field("vid_name", "nowhere"), r"line 2: vid_name 'nowhere' has no line in tv_subtitles.jsonl"),
    ("yc2c", field("vid_name", "nowhere"), r"line 2: vid_name 'nowhere' has no line in yc2_subtitles.jsonl"),
    ("tvc", field("ts", "1-2"), r"line 2: key 'ts' is '1-2', expected list"),
    ("yc2c", field("duration", False), r"line 2: key 'duration' is False, expected int or float"),
    ("yc2c", field("descs", [{"desc": "stir"}]), r"line 2, descs\[0\]: key 'desc_id' is missing"),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_wrong_value_is_named_with_its_record(name: str, change: Any, said: str, root: Path) -> None:
    edit(root / FILES[name], change)
    with pytest.raises(UsageError, match=rf"{re.escape(str(root / FILES[name]))}: {said}"):
        tasks.get(name).read(root, "validation")


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("trainval_label2ans.json", lambda answers: answers[1:], "has [0-9]+ answers, trainval_ans2label.json beside"),
        ("trainval_label2ans.json", lambda answers: answers[::-1], "answer 0 is .*, whose label in trainval_ans2label"),
        ("trainval_label2ans.json", lambda answers: {}, "holds dict, expected a list of answers"),
        ("trainval_ans2label.json", lambda labels: list(labels), "the file is list, expected an object"),
    ],
)
@pytest.mark.parametrize("name", ["vqa", "gqa"])
def test_answer_tables_must_agree(name: str, file: str, change: Any, said: str, root: Path) -> None:
    path = root / {"vqa": "vqa", "gqa": "GQA"}[name] / file
    edit(path, change)
    with pytest.raises(UsageError, match=rf"{re.escape(str(path))}: {said}"):
        tasks.get(name).read(root, "train")


def test_the_question_may_be_called_question(root: Path) -> None:
    file = root / "vqa/karpathy_train.json"
    edit(file, lambda records: [lacks("sent")([{}, r])[1] | {"question": "why?"} for r in records])
    assert {e.text for e in tasks.get("vqa").read(root, "train")} == {"why?"}


def test_blank_lines_are_skipped(root: Path) -> None:
    file, task = root / FILES["yc2c"], tasks.get("yc2c")
    before = task.read(root, "validation")
    file.write_text("\n" + file.read_text().replace("\n", "\n\n"))
    assert task.read(root, "validation") == before
