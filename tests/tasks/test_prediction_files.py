"""Files with predictions: what the official tools take is written, recognised, and read back."""

import gzip
import json
from pathlib import Path

import pytest

from bench import tasks
from bench.errors import UsageError
from bench.tasks.prediction_files import FORMATS, OWN, distinct, read_entries

SPLITS = {name: "test" if name in tasks.names("video-text") else "validation" for name in tasks.names()}
#: what an entry is for the first example with a given prediction, as the official tools document it
WRITTEN = {
    "vqa": ("two dogs", lambda e: {"question_id": int(e.id), "answer": "two dogs"}),
    "gqa": ("left", lambda e: {"questionId": e.id, "prediction": "left"}),
    "caption": ("a \u201cdog\u201d", lambda e: {"image_id": int(e.id.rsplit("_")[-1]), "caption": "a \u201cdog\u201d"}),
    "tvc": (
        "She nods.",
        lambda e: {
            "vid_name": e.reference["vid_name"],
            "clip_id": int(e.id),
            "ts": e.reference["ts"],
            "descs": [{"desc": "She nods."}],
        },
    ),
    "yc2c": (
        "stir",
        lambda e: {"vid_name": e.reference["vid_name"], "clip_id": int(e.id), "descs": [{"desc": "stir"}]},
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_entries_are_those_of_the_official_tools(name: str, tiny_root: Path) -> None:
    task = tasks.get(name)
    example = task.read(tiny_root, SPLITS[name])[0]
    text, entry = WRITTEN[name]
    assert task.file_format is not None
    content = distinct(task.file_format, [example], [text])
    assert json.loads(content) == ([entry(example)] if task.file_format.suffix == ".json" else entry(example))


def test_choices_and_decisions_are_written_as_the_official_code_does(tiny_root: Path) -> None:
    quiz, pairs = tasks.get("tvqa"), tasks.get("nlvr")
    assert quiz.file_format and pairs.file_format
    said = ["a3", "a", "", "x2y", "an", "a\u0663"]
    examples = [tasks.Example(str(i), "", ()) for i in range(len(said))]
    assert json.loads(quiz.file_format.write(examples, said)) == {"0": 3, "1": 0, "2": 0, "3": 2, "4": 0, "5": 0}
    examples = pairs.read(tiny_root, "test")[:2]
    first, second = (example.reference["identifier"] for example in examples)
    assert pairs.file_format.write(examples, ["true", "false"]) == f"{first},True\n{second},False\n"


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("own", [False, True])
def test_what_is_written_is_recognised_and_read_back(name: str, own: bool, tiny_root: Path, tmp_path: Path) -> None:
    task = tasks.get(name)
    form = OWN if own else task.file_format
    assert form is not None
    examples = task.read(tiny_root, SPLITS[name])
    words = {"nlvr": ["true", "false"], "tvqa": ["a0", "a4"], "how2qa": ["a1", "a2"]}.get(
        name, ["a\u2028dog", 'a "b",']
    )
    said = [words[i % 2] for i in range(len(examples))]
    content = distinct(form, examples, said).encode()
    (tmp_path / "file").write_bytes(gzip.compress(content) if own else content)
    recognised, entries = read_entries(tmp_path / "file")
    assert recognised is form
    assert {entry.key: entry.prediction for entry in entries} == dict(zip(map(form.key, examples), said, strict=True))


def test_the_published_files_are_recognised(shared: Path) -> None:
    real = shared / "real"
    files = {
        "vqa/results_majority.json": ("VQA result JSON", 2962),
        "coco_caption/magic_predictions.test200.cocoformat.json": ("COCO result JSON", 200),
        "nlvr2/dev.head200.predictions.csv": ("NLVR2 CSV", 200),
        "yc2c/yc2c_val_predictions.head100.jsonl": ("clip caption JSONL", 100),
    }
    for file, (title, number) in files.items():
        form, entries = read_entries(real / file)
        assert (form.title, len({entry.key for entry in entries})) == (title, number)


FAULTS = {
    "nothing": ("", "is empty"),
    "no entries": ("[]", "has no predictions"),
    "an empty object": ("{}", "has no predictions"),
    "no JSON": ('[{"question_id": 1, "answer": ', "is not valid JSON"),
    "text": ("once upon a time", "is in no form that is recognised: VQA result JSON, GQA"),
    "annotations": ('{"annotations": []}', "is in no form that is recognised"),
    "a list of numbers": ("[1, 2]", "is in no form"),
    "an answer that is no text": (
        '[{"question_id": 1, "answer": "a"}, {"question_id": 2, "answer": 5}]',
        "entry 1: key",
    ),
    "an entry without id": (
        '[{"question_id": 1, "answer": "a"}, {"answer": "b"}]',
        "entry 1: key 'question_id' is mis",
    ),
    "an entry that is no object": ('[{"image_id": 1, "caption": "a"}, 7]', "entry 1 is int"),
    "no decision": ("dev-1-0-0,True\ndev-1-0-1,yes\n", "line 2: is 'dev-1-0-1,yes', expected IDENTIFIER,True"),
    "a heading": ("identifier,prediction\ndev-1-0-0,True\n", "line 1: is 'identifier,prediction'"),
    "three columns": ("dev-1-0-0,True\na,True,1\n", "line 2: is 'a,True,1'"),
    "no index": ('{"1": 2, "2": "a2"}', "key '2': is 'a2', expected the index"),
    "two captions": ('{"clip_id": 1, "descs": [{"desc": "a"}, {"desc": "b"}]}', "line 1: key 'descs' has 2 captions"),
    "no captions": ('{"clip_id": 1, "descs": []}', "line 1: key 'descs' has 0 captions"),
    "half a character": ('[{"image_id": 1, "caption": "\\ud83d"}]', "half of a surrogate pair"),
    "deep nesting": ("[" * 100_000, "nested too deeply"),
    "torn gzip": (gzip.compress(b"[]" * 100)[:20], "cannot be read"),
    "another encoding": ('[{"caption": "caf\xe9"}]'.encode("latin-1"), "UTF-8"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_file_is_one_error_that_names_the_place(case: str, tmp_path: Path) -> None:
    content, message = FAULTS[case]
    file = tmp_path / "file"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as caught:
        read_entries(file)
    assert str(caught.value).startswith(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such file; give a file with predictions"):
        read_entries(tmp_path / "nowhere")


def test_every_built_in_task_has_a_form() -> None:
    assert all(tasks.get(name).file_format in FORMATS for name in tasks.names())
