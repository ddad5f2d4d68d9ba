"""Reading annotation files: every fault is one error that names the file, the record and the key."""

import codecs
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.files import parse_named_json, read_text, require_file
from bench.tasks.task import Example
from bench.tasks.tolerance import Tolerance, tolerate

ADVICE = "check the data root, or run `python -m bench data check`"
MAX_CHARACTERS = 20_000  # of one text: a hundred times the longest that the official files have
MAX_NAME_BYTES = 200  # of the name of a feature file, which gets an ending and must fit into a folder


class JsonRecord:
    """One JSON object of a file; looking up a key checks that it is there and has the type it should have.

    Messages call its place in the file ``place``, for one of many followed by its ``index`` and the text ``behind``.
    """

    __slots__ = ("_place", "content", "file")

    def __init__(self, content: Any, file: Path, place: str, index: int | None = None, behind: str = "") -> None:
        self.content, self.file, self._place = content, file, (place, index, behind)
        if not isinstance(content, dict):
            raise UsageError(f"{file}: {self.place} is {type(content).__name__}, expected an object with named fields")

    @property
    def place(self) -> str:
        place, index, behind = self._place
        return place if index is None else f"{place}{index}{behind}"

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """Return the value of a key, which must be of the given type; a string must be text that can be written."""
        value = self.content.get(key)
        if type(value) is kind:  # of the published files nearly every one
            if isinstance(value, str):
                self.check_text(key, value)
            return value
        if key not in self.content:
            raise self.fault(f"key {key!r} is missing (there are: {', '.join(map(str, self.content)):.200})")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(k.__name__ for k in kinds)
            raise self.fault(f"key {key!r} is {value!r:.60}, expected {wanted}")
        if isinstance(value, str):
            self.check_text(key, value)
        return value

    def text(self, key: str) -> str:
        """Return a text, which may be blank: that is counted."""
        value: str = self.get(key, str)
        if not value.strip():
            tolerate(Tolerance.BLANK_TEXT)
        return value

    def file_name(self, key: str, ending: str = "") -> str:
        """Return a string that is part of the name of a feature file, without ``ending``.

        It must not lead out of the folder.
        """
        name: str = self.get(key, str).removesuffix(ending)
        if not name.strip(". ") or "/" in name or "\0" in name or len(name.encode()) > MAX_NAME_BYTES:
            raise self.fault(f"key {key!r} is {name!r:.60}, expected the name of a file without its ending")
        return name

    def items(self, key: str) -> Iterator["JsonRecord"]:
        """Yield the objects in the list under a key."""
        place = f"{self.place}, {key}["
        for index, item in enumerate(self.get(key, list)):
            yield JsonRecord(item, self.file, place, index, "]")

    def strings(self, key: str, inner: str) -> list[str]:
        """Return the strings under ``inner`` of the objects in the list under a key."""
        items = self.get(key, list)
        try:  # all at once; of the published files nearly every list passes
            strings = [item[inner] for item in items]
            joined = "".join(strings)
            if joined.isascii() and len(joined) <= MAX_CHARACTERS:
                return strings
        except (KeyError, TypeError):
            pass
        return [item.get(inner, str) for item in self.items(key)]

    def check_text(self, key: str, text: str) -> None:
        """Raise UsageError for a text that no UTF-8 file can hold, or that is longer than any of the official files."""
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise self.fault(f"key {key!r} is {text!r:.60}, which has half of a surrogate pair; it is no Unicode text")
        if len(text) > MAX_CHARACTERS:
            raise self.fault(f"key {key!r} has {len(text):,} characters, expected at most {MAX_CHARACTERS:,}")

    def fault(self, message: str) -> UsageError:
        """Return the error for something wrong with this record."""
        return UsageError(f"{self.file}: {self.place}: {message}")


class ExampleList:
    """The examples of a split in the order of its files; compares those that have the same id.

    In training an id is used for nothing: examples with the same one are kept and counted. In evaluation every id
    counts once: of two files the later one wins (quirk TVQA-DUP), an example that is repeated in a file is left out.
    """

    def __init__(self, split: str) -> None:
        self.examples: list[Example] = []
        self._train = split == "train"
        self._index: dict[str, int] = {}
        self._records: list[JsonRecord] = []

    def add(self, example: Example, record: JsonRecord) -> None:
        """Append an example.

        Raises:
            UsageError: two examples of one evaluation file have the same id and are not equal.
        """
        index = self._index.setdefault(example.id, len(self.examples))
        if index < len(self.examples):
            same = self.examples[index] == example
            if self._train:
                tolerate(Tolerance.REPEATED_EXAMPLE if same else Tolerance.SHARED_ID)
            elif self._records[index].file != record.file:
                tolerate(Tolerance.REPEATED_IN_FILES)
                self.examples[index], self._records[index] = example, record
                return
            elif same:
                tolerate(Tolerance.REPEATED_EXAMPLE)
                return
            else:
                raise record.fault(
                    f"has the id {example.id!r:.60}, which {self._records[index].place} has too; "
                    "each example of an evaluation needs an id of its own"
                )
        self.examples.append(example)
        if not self._train:
            self._records.append(record)


class ImageFiles:
    """The feature files of images in one folder, relative to the data root; one tuple for all examples of an image."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: dict[str, tuple[str]] = {}

    def of(self, record: JsonRecord, key: str) -> tuple[str]:
        """Return the file of the image that is named under a key, without ending."""
        name = record.content.get(key)
        files = self._files.get(name) if isinstance(name, str) else None
        if files is None:
            name = record.file_name(key)
            files = self._files[name] = (f"{self._folder}/{name}.h5",)
        return files


def load_json(file: Path) -> Any:
    """Parse a JSON file; UsageError where it is missing or broken."""
    return parse_named_json(read_text(file, ADVICE), f"{file}:")


_decode = msgspec.json.Decoder().decode
_split_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_split_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
#: what a text raises that msgspec refuses; json may accept it (NaN, lone surrogates), or words the error
REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def json_list(file: Path) -> Iterator[JsonRecord]:
    """Yield the objects of a JSON file that holds a list of at least one, parsed one after the other.

    Raises:
        UsageError: the file is missing, broken, or holds something else.
    """
    try:
        parts = _split_list(_content(file))
    except REFUSED:
        content = load_json(file)
        if not isinstance(content, list):
            raise UsageError(f"{file}: holds {type(content).__name__}, expected a list of records") from None
        parts = content
    if not parts:
        raise UsageError(f"{file}: has no records; {ADVICE}")
    for index, item in enumerate(_parsed(parts, lambda: load_json(file))):
        yield JsonRecord(item, file, "record ", index)


def json_items(file: Path, key: str) -> Iterator[JsonRecord]:
    """Yield the objects in the list under a key of the one object in a JSON file, parsed one after the other.

    Raises:
        UsageError: the file is missing, broken, or holds something else.
    """
    try:
        parts = _split_list(_split_object(_content(file))[key])
    except (KeyError, *REFUSED):
        yield from json_object(file).items(key)
        return
    for index, item in enumerate(_parsed(parts, lambda: load_json(file)[key])):
        yield JsonRecord(item, file, f"the file, {key}[", index, "]")


def _content(file: Path) -> bytes:
    """Return the content of a file, without a byte order mark."""
    require_file(file, ADVICE)
    try:
        return file.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error}); {ADVICE}") from None


def _parsed(parts: list[Any], parse_all: Callable[[], Any]) -> Iterator[Any]:
    """Yield the values of the parts of a file; where one is refused, ``parse_all`` has them all, or names the fault."""
    for index, part in enumerate(parts):
        try:
            value = _decode(part) if isinstance(part, msgspec.Raw) else part
        except REFUSED:
            yield from parse_all()[index:]
            return
        yield value


def json_object(file: Path) -> JsonRecord:
    """Read a JSON file that holds one object."""
    return JsonRecord(load_json(file), file, "the file")


def json_lines(file: Path) -> list[JsonRecord]:
    """Read a file with one JSON object a line, at least one; blank lines are skipped."""
    lines = read_text(file, ADVICE).split("\n")  # a text may hold other line separators, unescaped
    records = [
        JsonRecord(parse_named_json(line, f"{file}: line {number}"), file, f"line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not records:
        raise UsageError(f"{file}: has no records; {ADVICE}")
    return records


def soft_label(record: JsonRecord) -> tuple[tuple[str, float], ...]:
    """Return the answers and scores of a ``label`` dict, which may be empty; scores are from 0 to 1."""
    label = record.get("label", dict)
    for answer, score in label.items():
        record.check_text("label", answer)
        if type(score) in (float, int) and 0 <= score <= 1 and (not score or answer.strip()):
            continue
        name = f"key 'label': score of {answer!r:.60} is {score!r:.60}"
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score < math.inf:
            raise record.fault(f"{name}, expected a number of at least 0")
        if score > 1:
            raise record.fault(f"{name}, expected a number of at most 1")
        if score and not answer.strip():
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
        if not isinstance(answer, str):
            raise UsageError(f"{file}: answer {index} is {answer!r:.60}, expected a string")
        if to_label.get(answer) != index:
            raise UsageError(
                f"{file}: answer {index} is {answer!r:.60}, whose label in trainval_ans2label.json is "
                f"{to_label.get(answer)!r:.60}"
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


def added_folder(root: Path, source: str, name: str) -> str:
    """Return the feature folder of a split that is only predicted, relative to the data root.

    That is ``name`` beside the folder of :func:`grid_folder`, or this one where there is no such folder. What is added
    to the folder that runs were trained from makes them stale.
    """
    added = f"{source}/clip_features/{name}"
    return added if (root / added).is_dir() else grid_folder(root, source)


def frames_file(source: str, video: str) -> str:
    """Return the feature file of a video, relative to the data root."""
    return f"video/vis_features/{source}/clip-vit/{video}.npz"
