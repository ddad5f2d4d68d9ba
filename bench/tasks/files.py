"""Reading annotation files: every fault is one error that names the file, the record and the key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import UsageError


class JsonRecord:
    """One JSON object of a file; looking up a key checks that it is there and has the type it should have."""

    def __init__(self, content: Any, file: Path, place: str) -> None:
        if not isinstance(content, dict):
            raise UsageError(f"{file}: {place} is {type(content).__name__}, expected an object with named fields")
        self.content, self.file, self.place = content, file, place

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """Return the value of a key, which must be of the given type."""
        if key not in self.content:
            raise self.fault(f"key {key!r} is missing (there are: {', '.join(map(str, self.content))})")
        value = self.content[key]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(k.__name__ for k in kinds)
            raise self.fault(f"key {key!r} is {value!r:.60}, expected {wanted}")
        return value

    def items(self, key: str) -> Iterator["JsonRecord"]:
        """Yield the objects in the list under a key."""
        for index, item in enumerate(self.get(key, list)):
            yield JsonRecord(item, self.file, f"{self.place}, {key}[{index}]")

    def fault(self, message: str) -> UsageError:
        """Return the error for something wrong with this record."""
        return UsageError(f"{self.file}: {self.place}: {message}")


def load_json(file: Path) -> Any:
    """Parse a JSON file; UsageError where it is missing or broken."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file; check the data root, or run `python -m bench data check`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not valid JSON ({error}); fetch the file again") from None


def json_list(file: Path) -> list[JsonRecord]:
    """Read a JSON file that holds a list of objects."""
    content = load_json(file)
    if not isinstance(content, list):
        raise UsageError(f"{file}: holds {type(content).__name__}, expected a list of records")
    return [JsonRecord(item, file, f"record {index}") for index, item in enumerate(content)]


def json_object(file: Path) -> JsonRecord:
    """Read a JSON file that holds one object."""
    return JsonRecord(load_json(file), file, "the file")


def json_lines(file: Path) -> list[JsonRecord]:
    """Read a file with one JSON object a line; blank lines are skipped."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # a text may hold other line separators, unescaped
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file; check the data root, or run `python -m bench data check`") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 text ({error})") from None
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(JsonRecord(json.loads(line), file, f"line {number}"))
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}: line {number} is not valid JSON ({error})") from None
    return records


def soft_label(record: JsonRecord) -> tuple[tuple[str, float], ...]:
    """Return the answers and scores of a ``label`` dict, which may be empty."""
    label = record.get("label", dict)
    for answer, score in label.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or score < 0:
            raise record.fault(f"key 'label': score of {answer!r} is {score!r}, expected a number of at least 0")
        if score and not answer:
            raise record.fault(f"key 'label': the empty answer has score {score!r}, expected some text")
    return tuple((answer, float(score)) for answer, score in label.items())


def answer_tables(folder: Path) -> None:
    """Check that the two answer vocabularies beside the questions are the inverse of each other.

    The tasks generate their answers and use the vocabularies for nothing else.
    """
    to_label = json_object(folder / "trainval_ans2label.json").content
    file = folder / "trainval_label2ans.json"
    to_answer = load_json(file)
    if not isinstance(to_answer, list):
        raise UsageError(f"{file}: holds {type(to_answer).__name__}, expected a list of answers")
    if len(to_label) != len(to_answer):
        raise UsageError(f"{file}: has {len(to_answer)} answers, trainval_ans2label.json beside it {len(to_label)}")
    for index, answer in enumerate(to_answer):
        if to_label.get(answer) != index:
            raise UsageError(
                f"{file}: answer {index} is {answer!r}, whose label in trainval_ans2label.json is "
                f"{to_label.get(answer)!r}"
            )


def grid_folder(root: Path, source: str) -> str:
    """Return the feature folder of an image source, relative to the data root: that of CLIP RN101, or the only other
    one where that is not there; UsageError where there is a choice of others."""
    folder, usual = f"{source}/clip_features", "data_clip_RN101_att"
    folders = sorted(path.name for path in (root / folder).glob("data_clip_*_att"))
    if usual in folders or not folders:
        return f"{folder}/{usual}"
    if len(folders) > 1:
        raise UsageError(f"{root / folder}: has {' and '.join(folders)} but no {usual}; leave one of them there")
    return f"{folder}/{folders[0]}"


def frames_file(source: str, video: str) -> str:
    """Return the feature file of a video, relative to the data root."""
    return f"video/vis_features/{source}/clip-vit/{video}.npz"
