"""The forms in which NLVR2 and GQA are published by their authors, which are not those that the official code reads.

The official code reads what VL-T5 and LXMERT made of them. A raw file in its place is recognised, and the error names
the command that converts it (:mod:`bench.data.convert`).
"""

import re
from contextlib import suppress
from pathlib import Path

from bench.errors import UsageError
from bench.files import parse_json

BEGINNING = 20_000  # bytes by which a form is recognised
GQA_ITEM = re.compile(r'\s*\{\s*"\d+"\s*:\s*\{')
WANTED = {
    "nlvr2": "a list of records with uid, identifier, img0, img1, label and sent",
    "gqa": "a list of records with question_id, img_id, sent and label, an answer with its score",
}


def raw_form(file: Path) -> str:
    """Return which raw form the beginning of a file has, "nlvr2" or "gqa"; "" where it is neither or cannot be read."""
    with suppress(OSError, ValueError):
        if not file.is_file():
            return ""
        with file.open("rb") as stream:
            text = stream.read(BEGINNING).decode("utf-8", errors="replace").lstrip("\ufeff")
        if GQA_ITEM.match(text) and '"imageId"' in text and '"question"' in text:
            return "gqa"
        record = parse_json(text.lstrip().partition("\n")[0])
        if isinstance(record, dict) and {"sentence", "identifier"} <= record.keys():
            return "nlvr2"
    return ""


def refuse_raw(file: Path, form: str) -> None:
    """Refuse a raw file where an official one is read, or beside the place where there is none.

    Raises:
        UsageError: ``file`` has the raw form, or is not there and other files of its folder have it.
    """
    candidates = [file] if file.exists() else sorted(file.parent.glob("*.json"))
    raw = [path for path in candidates if raw_form(path) == form]
    if raw:
        move = "move it out of there, then " if raw[0] == file else ""
        raise UsageError(
            f"{raw[0]}: has the raw form of {form.upper()}, and {file.name} must be {WANTED[form]}; {move}convert it "
            f"with `python -m bench data convert {form} {raw[0].name} --out {file.parent.parent}`"
        )
