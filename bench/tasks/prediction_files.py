"""Files with predictions in the forms that evaluation servers and official tools take, and our own.

Every form is recognised by its content. The sources: the VQA evaluation tool's result format, GQA's ``eval.py``, the
result format of the COCO API, NLVR2's ``metrics.py``, and the submissions of the VALUE benchmark.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.files import parse_named_json, require_file
from bench.tasks.files import JsonRecord
from bench.tasks.task import Entry, Example, FileContent, FileFormat

ADVICE = "give a file with predictions"


def read_content(file: Path) -> FileContent:
    """Read a file, compressed by gzip or not, as JSON, JSON lines or comma-separated values.

    Raises:
        UsageError: it cannot be read, is empty, or is none of these.
    """
    require_file(file, ADVICE)
    try:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error}); {ADVICE}, UTF-8 text or that compressed by gzip") from None
    lines = [(f"line {n}", line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise UsageError(f"{file}: is empty; {ADVICE}")
    if text.lstrip()[0] not in "[{":
        rows = csv.reader(io.StringIO(text))
        try:
            return FileContent(file, "table", [(f"line {rows.line_num}", row) for row in rows if row])
        except csv.Error as error:
            raise UsageError(f"{file}: line {rows.line_num}: {error}; {ADVICE}") from None
    if text.lstrip()[0] == "{" and _is_object(lines[0][1]) and (len(lines) > 1 or _is_line(lines[0][1])):
        values = [(place, parse_named_json(line, f"{file}: {place}")) for place, line in lines]
        return FileContent(file, "lines", values)
    value = parse_named_json(text, f"{file}:")
    if isinstance(value, list):
        if not value:
            raise UsageError(f"{file}: has no predictions; {ADVICE}")
        return FileContent(file, "list", [(f"entry {n}", item) for n, item in enumerate(value)])
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)  # a key may stand twice
    if not pairs:
        raise UsageError(f"{file}: has no predictions; {ADVICE}")
    return FileContent(file, "object", [(f"key {key!r:.60}", (key, value)) for key, value in pairs])


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_line(line: str) -> bool:
    """Return whether an object that is alone in a file is a line of one of the forms of lines."""
    return bool(json.loads(line).keys() & {"prediction", "descs"})


def _has_keys(content: FileContent, kind: str, *keys: str) -> bool:
    first = content.items[0][1]
    return content.kind == kind and isinstance(first, dict) and first.keys() >= set(keys)


def _records(content: FileContent) -> Iterator[JsonRecord]:
    for place, value in content.items:
        yield JsonRecord(value, content.file, place)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_list(title: str, id_key: str, prediction_key: str, *, integer: bool) -> FileFormat:
    """Return the form of a JSON list of objects with an id and a prediction."""

    def key(example: Example) -> str:
        if not integer:
            return example.id
        number = re.search(r"[0-9]+$", example.id)  # an image is called COCO_val2014_000000391895
        if number is None:
            raise UsageError(f"{example.id!r:.60} does not end with a number, which {title} needs as {id_key}")
        return str(int(number[0]))

    def write(examples: Sequence[Example], predictions: Sequence[str]) -> str:
        keys: list[str | int] = [int(key(example)) if integer else key(example) for example in examples]
        pairs = zip(keys, predictions, strict=True)
        return _dump([{id_key: identity, prediction_key: prediction} for identity, prediction in pairs]) + "\n"

    def read(content: FileContent) -> Iterator[Entry] | None:
        if not _has_keys(content, "list", id_key, prediction_key):
            return None
        records = _records(content)
        return (Entry(str(r.get(id_key, (int, str))), r.get(prediction_key, str), r.place) for r in records)

    return FileFormat(title, ".json", key, write, read)


def _identifier(example: Example) -> str:
    return str(example.reference["identifier"])


def _write_table(examples: Sequence[Example], predictions: Sequence[str]) -> str:
    pairs = zip(examples, predictions, strict=True)
    return "".join(f"{_identifier(example)},{prediction == 'true'}\n" for example, prediction in pairs)


def _read_table(content: FileContent) -> Iterator[Entry] | None:
    if content.kind != "table" or len(content.items[0][1]) != 2:
        return None

    def entry(place: str, row: list[str]) -> Entry:
        if len(row) != 2 or row[1].strip() not in ("True", "False"):
            raise UsageError(f"{content.file}: {place}: is {','.join(row)!r:.60}, expected IDENTIFIER,True or ,False")
        return Entry(row[0].strip(), row[1].strip().lower(), place)

    return (entry(*item) for item in content.items)


def _write_choices(examples: Sequence[Example], predictions: Sequence[str]) -> str:
    """Write the index in each ``a3``; like the official code 0 where there is none."""
    indices = {
        example.id: int(prediction[1]) if re.match(r".[0-9]", prediction, re.DOTALL) else 0
        for example, prediction in zip(examples, predictions, strict=True)
    }
    return _dump(indices) + "\n"


def _read_choices(content: FileContent) -> Iterator[Entry] | None:
    if content.kind != "object" or not any(isinstance(value, int) for _, (_, value) in content.items):
        return None

    def entry(place: str, key: str, value: Any) -> Entry:
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"{content.file}: {place}: is {value!r:.60}, expected the index of an answer")
        return Entry(key, f"a{value}", place)

    return (entry(place, *pair) for place, pair in content.items)


def _clip(example: Example) -> str:
    number = (example.official or {}).get("clip_id")
    if number is None:
        raise UsageError(f"example {example.id} has no clip_id in the annotations, which {CLIP_CAPTIONS.title} needs")
    return str(number)


def _write_clips(examples: Sequence[Example], predictions: Sequence[str]) -> str:
    pairs = zip(examples, predictions, strict=True)
    return "".join(_dump({**(e.official or {}), "descs": [{"desc": text}]}) + "\n" for e, text in pairs)


def _read_clips(content: FileContent) -> Iterator[Entry] | None:
    if not _has_keys(content, "lines", "clip_id", "descs"):
        return None

    def entry(record: JsonRecord) -> Entry:
        captions = [item.get("desc", str) for item in record.items("descs")]
        if len(captions) != 1:
            raise record.fault(f"key 'descs' has {len(captions)} captions, expected one")
        return Entry(str(record.get("clip_id", int)), captions[0], record.place)

    return (entry(record) for record in _records(content))


def _write_own(examples: Sequence[Example], predictions: Sequence[str]) -> str:
    pairs = zip(examples, predictions, strict=True)
    return "".join(_dump({"id": e.id, "prediction": p, "reference": e.reference}) + "\n" for e, p in pairs)


def _read_own(content: FileContent) -> Iterator[Entry] | None:
    if not _has_keys(content, "lines", "id", "prediction"):
        return None
    return (Entry(record.get("id", str), record.get("prediction", str), record.place) for record in _records(content))


VQA_RESULTS = _json_list("VQA result JSON", "question_id", "answer", integer=True)
GQA_RESULTS = _json_list("GQA result JSON", "questionId", "prediction", integer=False)
COCO_RESULTS = _json_list("COCO result JSON", "image_id", "caption", integer=True)
NLVR_TABLE = FileFormat("NLVR2 CSV", ".csv", _identifier, _write_table, _read_table)
CHOICES = FileFormat(
    "video QA JSON (question id to index)", ".json", lambda example: example.id, _write_choices, _read_choices
)
CLIP_CAPTIONS = FileFormat("clip caption JSONL", ".jsonl", _clip, _write_clips, _read_clips)
#: what run directories keep (compressed); for every task
OWN = FileFormat("JSONL of id and prediction", ".jsonl", lambda example: example.id, _write_own, _read_own)
FORMATS = (VQA_RESULTS, GQA_RESULTS, COCO_RESULTS, NLVR_TABLE, CHOICES, CLIP_CAPTIONS, OWN)


def read_entries(file: Path, formats: Sequence[FileFormat] = FORMATS) -> tuple[FileFormat, list[Entry]]:
    """Read a file with predictions; return the form that it has and its entries.

    Raises:
        UsageError: it cannot be read, has none of the forms, or a faulty entry, which is named.
    """
    content = read_content(file)
    for form in formats:
        if (entries := form.read(content)) is not None:
            return form, list(entries)
    titles = ", ".join(form.title for form in formats)
    raise UsageError(f"{file}: is in no form that is recognised: {titles}")


def distinct(form: FileFormat, examples: Sequence[Example], predictions: Sequence[str]) -> str:
    """Return the content of a file in a form: of examples that share an entry, such as the descriptions of a clip, the
    prediction of the first."""
    first: dict[str, tuple[Example, str]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        first.setdefault(form.key(example), (example, prediction))
    kept, texts = zip(*first.values(), strict=True) if first else ((), ())
    return form.write(kept, texts)
