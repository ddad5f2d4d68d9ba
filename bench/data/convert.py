"""Raw annotations of NLVR2 and GQA in the form that the official code reads, which VL-T5 and LXMERT made of them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.files import atomic_write, explain_write_errors
from bench.tasks.files import ADVICE, JsonRecord, json_lines, json_object

Records = list[dict[str, Any]]
NLVR2_SPLITS = {"train": "train", "dev": "valid", "test1": "test"}  # how identifiers begin -> official file
GQA_SPLITS = {"train": "train", "val": "valid", "testdev": "testdev"}  # how file names begin -> official file
TABLES = ("trainval_ans2label.json", "trainval_label2ans.json")


def read_nlvr2(file: Path) -> tuple[str, Records]:
    """Read a raw file of NLVR2 (a JSON object a line); return the official name of its split, and its records.

    Raises:
        UsageError: a record lacks a label or another key, or is of another split than the first.
    """
    records: Records = []
    name = ""
    for index, raw in enumerate(json_lines(file)):
        identifier = raw.get("identifier", str)
        prefix, *fields = identifier.split("-")
        if prefix not in NLVR2_SPLITS or len(fields) != 3:
            splits = ", ".join(NLVR2_SPLITS)
            raise raw.fault(f"key 'identifier' is {identifier!r:.60}, expected one like 'dev-850-0-2' ({splits})")
        if name not in ("", NLVR2_SPLITS[prefix]):
            raise raw.fault(f"key 'identifier' is {identifier!r:.60}, which is of another split than the first record")
        name = NLVR2_SPLITS[prefix]
        label = raw.get("label", str).lower()
        if label not in ("true", "false"):
            raise raw.fault(f"key 'label' is {label!r:.60}, expected 'True' or 'False'")
        images = identifier.rpartition("-")[0]
        records.append(
            {
                "identifier": identifier,
                "img0": f"{images}-img0",
                "img1": f"{images}-img1",
                "label": int(label == "true"),
                "sent": raw.text("sentence"),
                "uid": f"nlvr2_{name}_{index}",
            }
        )
    return name, records


def read_gqa(file: Path) -> tuple[str, Records]:
    """Read raw balanced questions of GQA (one JSON object, questions by id); return the official name of their split,
    which the file's name says, and the records in the order of the file.

    Raises:
        UsageError: the file has another name than the published ones, or a question lacks its answer or another key.
    """
    match = re.match(r"(train|val|testdev)(?!_all)(_balanced_questions)?\.json$", file.name)
    if match is None:
        raise UsageError(
            f"{file}: expected train_balanced_questions.json, val_balanced_questions.json or "
            "testdev_balanced_questions.json; the official runs use the balanced questions"
        )
    records = []
    for number, content in json_object(file).content.items():
        raw = JsonRecord(content, file, f"question {number}")
        answer = raw.get("answer", str)
        if not answer.strip():
            raise raw.fault("key 'answer' is empty, expected some text")
        records.append(
            {
                "img_id": raw.get("imageId", str),
                "label": {answer: 1.0},
                "question_id": number,
                "sent": raw.text("question"),
            }
        )
    if not records:
        raise UsageError(f"{file}: has no questions; {ADVICE}")
    return GQA_SPLITS[match[1]], records


#: raw form -> what reads a file of it, and the folder of the official files below the data root
FORMS: dict[str, tuple[Callable[[Path], tuple[str, Records]], str]] = {
    "nlvr2": (read_nlvr2, "nlvr"),
    "gqa": (read_gqa, "GQA"),
}


def convert(form: str, files: Sequence[Path], root: Path) -> list[str]:
    """Write the official files of raw ones into a data root: all of them, or none where anything is wrong.

    GQA also gets the two answer tables, where neither is there and training questions are among the files.

    Args:
        form: a key of FORMS.
        files: the raw files, one for each split.
        root: the data root; what it lacks is made.

    Returns:
        A line on every file that was written, or was there with the same content.

    Raises:
        UsageError: a file is not what it should be, two are of one split, or a file with other content is there.
    """
    read, place = FORMS[form]
    folder = root / place
    contents: dict[Path, Any] = {}
    lines = {}
    for file in files:
        name, records = read(file)
        target = folder / f"{name}.json"
        if target in contents:
            raise UsageError(f"{file}: another file has the split {name}, too; name one file for each")
        contents[target] = records
        lines[target] = f"{len(records):,} records of {file}"
    if form == "gqa" and folder / "train.json" in contents and not any((folder / name).exists() for name in TABLES):
        counts = Counter(answer for records in contents.values() for record in records for answer in record["label"])
        answers = [answer for answer, _ in counts.most_common()]
        contents[folder / TABLES[0]] = {answer: index for index, answer in enumerate(answers)}
        contents[folder / TABLES[1]] = answers
        lines |= {folder / name: f"{len(answers):,} answers of these files, the most frequent first" for name in TABLES}
    written = {target: (json.dumps(content, indent=4) + "\n").encode("ascii") for target, content in contents.items()}
    with explain_write_errors(folder, "--out"):
        for target, content in written.items():
            if target.exists() and target.read_bytes() != content:
                raise UsageError(f"{target}: is there with other content; nothing was written, move it away first")
        folder.mkdir(parents=True, exist_ok=True)
        for target, content in written.items():
            with atomic_write(target) as stream:
                stream.write(content)
    return [f"{target}: {line}" for target, line in lines.items()]
