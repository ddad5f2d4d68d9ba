"""An index of the records of a results folder, so that ten thousand of them are read in the time of one file.

It holds, of every record that was read without a fault, what frames are made of, and the marks (:func:`marks`) of the
files that were looked at. An entry counts only while these marks are what they were, so whatever writes a run is
noticed without knowing of the index; one that is torn, of another version or of other files is no entry. It lies in the
cache folder of whoever reads: a results folder may be another person's, and nobody reads an index that another wrote.
Of several processes that write it at once the last one wins, which costs the others' entries and nothing else.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.data.roots import cache_folder
from bench.files import read_bytes, write_bytes
from bench.record_schema import Record
from bench.run_dir import RunDir

VERSION = 1  # of the layout, and of what an entry has
SETTLED_SECONDS = 5.0  # a file that was changed later than this may change again within one tick of its clock
FILES = ("record.json", "run.json", "weights.safetensors")  # those that reading a record looks at
FOLDER = "indexes"  # of the cache folder

Mark = tuple[int, int, int, int] | None


def marks(runs: str, name: str) -> list[Mark]:
    """Return inode, size, and times of change in nanoseconds of content and status, of each of FILES of a run; None for
    a file that is not there.

    Raises:
        OSError: this process may not look into the directory.
    """
    return [_mark(f"{runs}/{name}/{file}") for file in FILES]


def _mark(path: str) -> Mark:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class RecordIndex:
    """The index of a results folder: reads records through it, and writes it where it has changed."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._runs = str(results / "runs")
        key = hashlib.sha256(os.fsencode(os.path.realpath(self._runs))).hexdigest()[:24]
        self._path = cache_folder() / FOLDER / f"{key}.jsonl"
        self._before = self._load()
        self._entries: dict[str, tuple[list[Mark], bytes]] = {}
        self._is_changed = False

    def read(self, name: str) -> Record | None:
        """Return what frames need of the record of a run, or None where the run has not ended.

        Raises:
            UnreadableFile: as :meth:`bench.run_dir.RunDir.read`.
        """
        current: list[Mark] = []
        with suppress(OSError, ValueError):
            current = marks(self._runs, name)
            entry = self._before.get(name)
            if entry is not None and entry[0] == current:
                with suppress(ValidationError):
                    record = Record.model_validate_json(entry[1])
                    self._entries[name] = entry
                    return record
        record_read = RunDir(self._results, name).read()
        if record_read is not None and current and _is_settled(current) and record_read.imported is None:
            content = json.dumps(_content(record_read)).encode("ascii")
            self._entries[name] = (current, content)
            self._is_changed = True
        return record_read

    def save(self) -> None:
        """Write the index with the entries of the runs that were read; where that is not possible, there is none."""
        if not self._is_changed and self._entries.keys() == self._before.keys():
            return
        lines = [f"{VERSION}".encode()]
        lines += [json.dumps([name, entry[0]]).encode() + b"\t" + entry[1] for name, entry in self._entries.items()]
        content = b"\n".join(lines)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def _load(self) -> dict[str, tuple[list[Mark], bytes]]:
        try:
            digest, _, content = read_bytes(self._path).partition(b"\n")
        except OSError:
            return {}
        version, *lines = content.split(b"\n")
        if digest != hashlib.sha256(content).hexdigest().encode() or version != f"{VERSION}".encode():
            return {}
        entries = {}
        with suppress(ValueError, TypeError):  # a layout of another version that forgot to raise its number
            for line in lines:
                head, _, record = line.partition(b"\t")
                name, of_files = json.loads(head)
                entries[name] = ([mark and tuple(mark) for mark in of_files], record)
        return entries


def _is_settled(current: list[Mark]) -> bool:
    latest = max(max(mark[2], mark[3]) for mark in current if mark)
    return time.time() - latest / 1e9 > SETTLED_SECONDS


def _content(record: Record) -> dict[str, Any]:
    """Return what frames and their fingerprints need of a record, as the schema has it.

    The rest is empty and not left out: pydantic copies a default more slowly than it reads a value.
    """
    memory, train = record.memory, record.memory.get("phases", {}).get("train", {})
    return {
        "id": record.id,
        "status": record.status,
        "cause": record.cause,
        "run": record.run.model_dump(mode="json", by_alias=True),
        "environment": {"hardware": record.environment.get("hardware")},
        "data": {key: record.data[key] for key in ("synthetic", "fingerprint") if key in record.data},
        "fingerprints": record.fingerprints,
        "parameters": record.parameters,
        "time": record.time,
        "memory": {"phases": {"train": train}, "analytic": memory.get("analytic", {})},
        "scores": {
            name: {
                "status": score.status,
                "split": score.split,
                "metric": score.metric,
                "metrics": {key: value for key, value in score.metrics.items() if key == score.metric},
                "history": [],
            }
            for name, score in record.scores.items()
        },
        "diagnostics": {},
        "evaluations": [],
        "segments": [],
        "notes": [],
        "limited": record.limited,
        "finished": record.finished,
    }
