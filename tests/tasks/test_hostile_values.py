"""Odd values in annotation files: each is an error that names file, record and key, or a counted tolerance."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import tasks
from bench.data.example_tables import read_with_tolerances
from bench.errors import UsageError
from bench.tasks import Example
from bench.tasks.tolerance import REASONS, Tolerance

HALF = "a dog \ud83d"
FILES = {
    "vqa": "vqa/karpathy_val.json",
    "human": "vqa/v2_mscoco_val2014_annotations.json",
    "gqa": "GQA/testdev.json",
    "nlvr": "nlvr/valid.json",
    "caption": "COCO/dataset_coco.json",
    "tvqa": "video/ann/tvqa/tvqa_val.jsonl",
    "how2qa": "video/ann/how2qa/how2qa_val_release.jsonl",
    "tvc": "video/ann/tvc/tvc_val_release.jsonl",
    "yc2c": "video/ann/yc2c/yc2c_val_release.jsonl",
    "tv": "video/ann/tv_subtitles.jsonl",
    "how2": "video/ann/how2_subtitles.jsonl",
    "yc2": "video/ann/yc2_subtitles.jsonl",
}
READERS = {name: name for name in FILES} | {"human": "vqa", "tv": "tvqa", "how2": "how2qa", "yc2": "yc2c"}
LISTS = {"human": "annotations", "caption": "images"}


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_root, tmp_path / "root", copy_function=os.link))


def rows_of(root: Path, name: str) -> tuple[Any, list[dict[str, Any]]]:
    """Return the content of an annotation file, and the list of its records in it."""
    text = (root / FILES[name]).read_text()
    content = [json.loads(line) for line in text.splitlines()] if FILES[name].endswith("l") else json.loads(text)
    return content, content[LISTS[name]] if name in LISTS else content


def store(root: Path, name: str, content: Any) -> None:
    path = root / FILES[name]
    path.unlink()  # it is a link to the file of all tests
    path.write_text("\n".join(map(json.dumps, content)) if path.suffix == ".jsonl" else json.dumps(content))


def change(root: Path, name: str, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the records of a file; those of the caption file are the images of the validation split."""
    content, rows = rows_of(root, name)
    chosen = [row for row in rows if row["split"] == "val"] if name == "caption" else rows
    edit(chosen)
    if name != "caption":
        rows[:] = chosen
    store(root, name, content)


def read(root: Path, name: str) -> tuple[list[Example], dict[str, int]]:
    return read_with_tolerances(tasks.get(READERS[name]), root, "validation")


def put(key: str, value: Any) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda rows: rows[1].update({key: value})


def inner(key: str, field: str, value: Any) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda rows: rows[1][key][0].update({field: value})


FAULTS = {
    **{f"half a character in {n}/{k}": (n, put(k, HALF), f"'{k}'.* surrogate") for n, k in [
        ("vqa", "sent"), ("vqa", "img_id"), ("gqa", "question_id"), ("gqa", "sent"), ("nlvr", "uid"), ("nlvr", "sent"),
        ("nlvr", "img0"), ("caption", "filename"), ("tvqa", "q"), ("tvqa", "a3"), ("tvqa", "vid_name"), ("tvqa", "ts"),
        ("tvqa", "show_name"), ("how2qa", "qid"), ("tvc", "vid_name"), ("human", "question_type"), ("tv", "vid_name"),
    ]},
    "half a character in a caption": ("caption", inner("sentences", "raw", HALF), r"sentences\[0\]: key 'raw'"),
    "half a character in an answer": ("human", inner("answers", "answer", HALF), r"answers\[0\]: key 'answer'"),
    "half a character in a description": ("tvc", inner("descs", "desc", HALF), r"descs\[0\]: key 'desc'"),
    "half a character in subtitles": ("how2", inner("sub", "text", HALF), r"sub\[0\]: key 'text'"),
    "half a character in a label": ("gqa", put("label", {HALF: 1.0}), "key 'label'.* surrogate"),
    **{f"label of {v}": ("gqa", put("label", {"yes": v}), "record 1: key 'label': score of 'yes' is .*, expected a n")
       for v in (float("nan"), float("inf"), float("-inf"), -1, 1e308, 5, 10**400)},
    "label above one": ("vqa", put("label", {"yes": 1.01}), "expected a number of at most 1"),
    "label without a score": ("gqa", put("label", {"yes": 0.0}), "no answer with a score"),
    "label without answers": ("gqa", put("label", {}), "no answer with a score"),
    "no human answers": ("human", put("answers", []), r"annotations\[1\]: key 'answers' is empty"),
    "no captions": ("caption", put("sentences", []), "key 'sentences' has no caption"),
    "blank captions": ("caption", put("sentences", [{"raw": " "}, {"raw": ""}]), "key 'sentences' has no caption"),
    "unknown split": ("caption", put("split", "Test"), "key 'split' is 'Test', expected train or restval or val or"),
    "blank description": ("tvc", inner("descs", "desc", " \n"), "line 2: key 'descs': the description .* is blank"),
    "long text": ("nlvr", put("sent", "dog " * 9000), "'sent' has 36,000 characters, expected at most 20,000"),
    **{f"name {v!r:.12}": (n, put(k, v), f"key '{k}' is .*, expected the name of a file") for n, k, v in [
        ("vqa", "img_id", "../../etc/passwd"), ("nlvr", "img1", "/etc/passwd"), ("gqa", "img_id", ""),
        ("caption", "filename", "."), ("tvqa", "vid_name", "nul\0byte"), ("yc2c", "vid_name", "x" * 300),
        ("how2", "vid_name", "a/b"),
    ]},
    **{f"show {v}": ("tvqa", put("show_name", v), "key 'show_name' is .*, expected str") for v in (5, ["a"], {"a": 1})},
    **{f"span {v}": ("tvc", put("ts", v), "key 'ts' is .*, expected") for v in ([], [1.0], ["a", "b"], [None, 1])},
    "an id of two questions": ("tvqa", lambda rows: rows[3].update(qid=rows[0]["qid"]), "line 4: has the id .*line 1"),
    "an id of two statements": ("nlvr", lambda r: r[2].update(uid=r[0]["uid"]), "record 2: has the id .*record 0"),
    "an id of all": ("gqa", lambda r: [row.update(question_id="1") for row in r], "record 1: has the id '1', which"),
    "an id of two descriptions": (
        "yc2c", lambda rows: rows[1]["descs"][0].update(desc_id=rows[0]["descs"][0]["desc_id"]), "line 2: has the id"
    ),
    "a clip_id of two clips": ("tvc", lambda r: r[1].update(clip_id=r[0]["clip_id"]), "line 2: has the clip_id .*line"),
    "two transcripts": ("tv", lambda r: r.append(r[0] | {"sub": []}), "vid_name .* has other subtitles in an earlier"),
    "two judgements": ("human", lambda r: r.append(r[0] | {"answers": r[0]["answers"][:9]}), "has other answers in an"),
    "no records": ("vqa", lambda rows: rows.clear(), "has no records"),
    "no lines": ("how2", lambda rows: rows.clear(), "has no records"),
    "no subtitles": ("yc2", lambda rows: rows.__delitem__(slice(1, None)), "examples have no subtitles, only"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_hostile_value_is_an_error_that_names_file_record_and_key(case: str, root: Path) -> None:
    name, edit, message = FAULTS[case]
    change(root, name, edit)
    with pytest.raises(UsageError, match=message) as caught:
        read(root, name)
    assert str(caught.value).startswith(str(root / FILES[name]))
    str(caught.value).encode()


def first_transcript(rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
    for row in rows:
        row["sub"] = lines


TOLERATED = {
    "blank question": ("gqa", put("sent", ""), {Tolerance.BLANK_TEXT: 1}, 0),
    "blank option": ("tvqa", put("a3", ". "), {Tolerance.BLANK_OPTION: 1}, 0),
    "a blank reference": ("caption", inner("sentences", "raw", "\n"), {Tolerance.BLANK_TARGET: 1}, 0),
    "equal options": ("how2qa", lambda r: r[1].update(a1=r[1]["a0"] + "."), {Tolerance.EQUAL_OPTIONS: 1}, 0),
    **{f"span {v!r}": (n, put("ts", v), {Tolerance.ODD_TIME_SPAN: 1}, 0) for n, v in [
        ("tvqa", "nan-nan"), ("tvqa", ""), ("tvqa", "9-2"), ("how2qa", "-3--1"), ("tvc", [9, 2]),
        ("tvc", [float("nan"), 1]), ("how2qa", "1" * 999 + "-" + "2" * 999),
    ]},
    **{f"duration {v}": ("yc2c", put("duration", v), {Tolerance.ODD_DURATION: 1}, 0)
       for v in (float("nan"), float("inf"), 1e308, -1, 0)},
    "no soft label": ("vqa", put("label", {}), {Tolerance.NO_SOFT_LABEL: 1}, 0),
    "nine answers": ("human", lambda r: r[0]["answers"].pop(), {Tolerance.NOT_TEN_ANSWERS: 1}, 0),
    "no descriptions": ("yc2c", put("descs", []), {Tolerance.NO_DESCRIPTIONS: 1}, -1),
    "a video without subtitles": ("how2", lambda rows: rows.pop(13), {Tolerance.NO_SUBTITLES: 3}, -3),
    "empty transcripts": ("yc2", lambda rows: first_transcript(rows, []), {Tolerance.EMPTY_TRANSCRIPT: 6}, 0),
    "long transcripts": (
        "how2", lambda rows: first_transcript(rows, [{"text": "dog"}] * 9000), {Tolerance.LONG_TRANSCRIPT: 18}, 0
    ),
    "a repeated question": ("tvqa", lambda rows: rows.append(rows[0]), {Tolerance.REPEATED_EXAMPLE: 1}, 0),
    "all repeated": ("gqa", lambda rows: rows.extend(list(rows)), {Tolerance.REPEATED_EXAMPLE: 18}, 0),
    "repeated subtitles": ("yc2", lambda rows: rows.append(rows[0]), {Tolerance.REPEATED_SUBTITLES: 1}, 0),
    "repeated answers": ("human", lambda rows: rows.append(rows[0]), {Tolerance.REPEATED_ANSWERS: 1}, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLERATED)
def test_an_oddity_is_counted(case: str, root: Path) -> None:
    name, edit, expected, difference = TOLERATED[case]
    before, nothing = read(root, name)
    assert nothing == {}
    change(root, name, edit)
    examples, tolerated = read(root, name)
    assert tolerated == expected
    assert len(examples) == len(before) + difference


def test_every_tolerance_has_a_reason() -> None:
    assert set(REASONS) == set(Tolerance)


def test_training_examples_may_share_an_id_and_be_repeated(root: Path) -> None:
    path = root / "nlvr/train.json"
    rows = json.loads(path.read_text())
    rows[1]["uid"] = rows[0]["uid"]
    path.unlink()
    path.write_text(json.dumps([*rows, rows[5]]))
    examples, tolerated = read_with_tolerances(tasks.get("nlvr"), root, "train")
    assert len(examples) == len(rows) + 1
    assert tolerated == {Tolerance.SHARED_ID: 1, Tolerance.REPEATED_EXAMPLE: 1}


def raw(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


INSTEAD = {
    "folder": (lambda path: path.mkdir(), "is a folder, expected a file"),
    "loop": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "link to nowhere": (lambda path: path.symlink_to("nowhere"), "no such file .it is a link that leads nowhere"),
    "FIFO": (lambda path: os.mkfifo(path), "is a FIFO, expected a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, expected a file"),
    "nested": (nested, "is not valid JSON .it is nested too deeply"),
    "long integer": (raw('[{"question_id": ' + "7" * 5000 + "}]"), "is not valid JSON .*digits"),
    "UTF-16": (lambda path: path.write_bytes('[{"sent": "é"}]'.encode("utf-16")), "is not UTF-8 text"),
    "Latin-1": (lambda path: path.write_bytes('[{"sent": "é"}]'.encode("latin-1")), "is not UTF-8 text"),
}
TABLES = ("vqa/trainval_label2ans.json", "GQA/trainval_ans2label.json")


@pytest.mark.parametrize("kind", INSTEAD)
@pytest.mark.parametrize("file", ["vqa", "gqa", "nlvr", "caption", "tvqa", "yc2", "human", *TABLES])
def test_what_is_no_annotation_file_is_named(kind: str, file: str, root: Path) -> None:
    make, message = INSTEAD[kind]
    path = root / FILES.get(file, file)
    path.unlink()
    make(path)
    with pytest.raises(UsageError, match=message) as caught:
        tasks.get({"GQA": "gqa", "vqa": "vqa"}[file.split("/")[0]] if "/" in file else READERS[file]).read(
            root, "validation"
        )
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("value", [["yes"], None, 5])
def test_an_answer_that_is_no_string_is_named(value: Any, root: Path) -> None:
    path = root / TABLES[0]
    answers = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps([value, *answers[1:]]))
    with pytest.raises(UsageError, match=r"answer 0 is .*, expected a string"):
        tasks.get("vqa").read(root, "train")


@pytest.mark.parametrize("name", FILES)
def test_byte_order_marks_and_carriage_returns_are_harmless(name: str, root: Path) -> None:
    before = read(root, name)
    path = root / FILES[name]
    content = path.read_bytes().replace(b"\n", b"\r\n").replace(b", ", b",\r\n " if path.suffix == ".json" else b", ")
    path.unlink()
    path.write_bytes(b"\xef\xbb\xbf" + content)
    assert read(root, name) == before


@pytest.mark.parametrize("separator", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
def test_separators_of_lines_inside_a_text_break_no_line(separator: str, root: Path) -> None:
    content, rows = rows_of(root, "tvc")
    rows[1]["descs"][0]["desc"] = f"a{separator}dog"
    path = root / FILES["tvc"]
    path.unlink()
    path.write_text("\n".join(json.dumps(row, ensure_ascii=separator < "\x1f") for row in content), encoding="utf-8")
    assert f"a{separator}dog" in [example.reference["caption"] for example in read(root, "tvc")[0]]


HOSTILE = [None, True, 5, -1, 10**30, 1.5, float("nan"), float("-inf"), "", " ", HALF, "x" * 30_000, "../x", "nan-nan",
           [], [None], [[]], {}, {"a": 1}, {"": 1}]  # fmt: skip
#: keys that take a second type, as some edition of the official files has it
ALSO = {"qid": str, "answer_idx": str, "ts": list, "duration": int}


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(FILES)), value=st.sampled_from(HOSTILE))
def test_every_mutation_is_an_error_a_tolerance_or_a_right_value(
    data: st.DataObject, name: str, value: Any, root: Path
) -> None:
    content, rows = rows_of(root, name)
    original = (root / FILES[name]).read_bytes()
    row = rows[data.draw(st.integers(0, len(rows) - 1), label="row")]
    target, key = row, data.draw(st.sampled_from(sorted(row)), label="key")
    if isinstance(row[key], list) and row[key] and isinstance(row[key][0], dict) and data.draw(st.booleans()):
        target = row[key][0]
        key = data.draw(st.sampled_from(sorted(target)), label="inner key")
    before, old = read(root, name), target[key]
    target[key] = value
    store(root, name, content)
    try:
        examples, tolerated = read(root, name)
    except UsageError as fault:
        assert FILES[name].rpartition("/")[2] in str(fault) or f"{READERS[name]}" in str(fault)
        str(fault).encode()
    else:
        if not tolerated and (examples, tolerated) != before:
            assert type(value) in (type(old), ALSO.get(key))
        json.dumps(
            [[e.id, e.text, e.visual, e.answers] for e in examples], ensure_ascii=False, allow_nan=False
        ).encode()
    finally:
        (root / FILES[name]).unlink()
        (root / FILES[name]).write_bytes(original)
