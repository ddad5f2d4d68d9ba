"""The record of a run: one directory, written so that a run is done or not done and never half.

Layout of ``results/runs/<run id>/``: ``run.json`` (the complete configuration), ``record.json`` (the outcome; its
presence is the end of the run), ``curve.jsonl``, ``predictions/<task>.jsonl.gz``, ``weights.safetensors`` (trained
tensors only), ``segments.jsonl``, ``log.txt``, ``attempts/`` (who tried, and how it ended), ``claim/`` (who works on
it), and while it runs ``progress.json`` and ``checkpoint.pt``. ``cancelled`` is there where a person stopped it. A run
made of a released checkpoint has ``imported.json`` (which one) and ``backbone/`` (its language model and tokeniser)
besides.
"""

import gzip
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.config import Run
from bench.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
CAUSES = ("oom", "nan", "timeout", "interrupted", "error", "unsupported")
PARTS = ("weights", "trainable", "gradients", "optimizer", "activations")
COLUMNS = [
    *("run_id", "method", "label", "backbone", "suite", "task", "split", "metric", "score", "seed", "status", "cause"),
    *("trainable", "total", "percent", "train_seconds", "step_seconds", "samples_per_second"),
    *("peak_memory_bytes", "host_memory_bytes", *(f"analytic_{part}" for part in PARTS)),
    *(
        "hardware",
        "precision",
        "batch_size",
        "synthetic",
        "limited",
        "tuning",
        "lr",
        "data",
        "overrides",
        "settings",
        "finished",
    ),
]


class ExtensibleModel(BaseModel):
    """Validated fields; a newer version may have added others, which are kept."""

    model_config = ConfigDict(extra="allow")


class Failure(ExtensibleModel):
    """What went wrong: in which phase, at which update, with which last lines of the log."""

    phase: str
    step: int | None = None
    type: str
    message: str
    tail: list[str] = []


class Score(ExtensibleModel):
    """The outcome of one task: its metrics, or why there are none."""

    status: Literal["done", "failed"]
    split: str
    metric: str
    metrics: dict[str, float] = {}
    n: int = 0
    error: str | None = None


class Record(ExtensibleModel):
    """The contents of record.json. Times are seconds, sizes bytes; what a device cannot tell is null."""

    schema_: int = SCHEMA
    id: str
    status: Literal["done", "failed"]
    cause: Literal["oom", "nan", "timeout", "interrupted", "error", "unsupported"] | None = None
    error: Failure | None = None
    run: Run
    environment: dict[str, Any] = {}
    data: dict[str, Any] = {}
    parameters: dict[str, float] = {}
    time: dict[str, float | None] = {}
    memory: dict[str, Any] = {}
    scores: dict[str, Score] = {}
    segments: list[dict[str, Any]] = []
    limited: bool = False
    finished: str = ""


class CorruptFile(UsageError):
    """A record, weight or prediction file that cannot be what was written; the message names it."""


class OwnershipLost(KeyboardInterrupt):
    """The run is no longer ours: its owner was thought dead, and another took over. Nothing may be written any more."""


class RunDir:
    """The directory of one run.

    ``check`` is called before every write; it raises :class:`Lost` where the run has become another process's.
    """

    def __init__(self, results: Path, run_id: str, check: Callable[[], None] = lambda: None) -> None:
        self.id = run_id
        self.path = results / "runs" / run_id
        self.check = check

    def __getattr__(self, name: str) -> Path:
        files = {
            "run": "run.json",
            "record": "record.json",
            "curve": "curve.jsonl",
            "segments": "segments.jsonl",
            "weights": "weights.safetensors",
            "log": "log.txt",
            "claim": "claim",
            "attempts": "attempts",
            "cancelled": "cancelled",
            "progress": "progress.json",
            "checkpoint": "checkpoint.pt",
        }
        if name not in files:
            raise AttributeError(name)
        return self.path / files[name]

    def predictions(self, task: str) -> Path:
        """Return the file of a task's per-example predictions."""
        return self.path / "predictions" / f"{task}.jsonl.gz"

    def begin(self, run: Run) -> None:
        """Make the directory and write the configuration; the files of a corrupt or failed attempt are put aside."""
        self.check()
        with explain_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if self.record.exists():
                self.put_aside(keep=(self.claim, self.attempts))
            for draft in self.path.glob(".*"):  # of a process that was killed while it wrote
                draft.unlink(missing_ok=True)
            write_json(self.run, run.model_dump(mode="json", by_alias=True))

    def put_aside(self, keep: tuple[Path, ...]) -> None:
        """Move the files of earlier attempts into ``attempt-N``: nothing is overwritten."""
        taken = [int(path.name.removeprefix("attempt-")) for path in self.path.glob("attempt-[0-9]*")]
        aside = self.path / f"attempt-{max(taken, default=0) + 1}"
        aside.mkdir()
        for item in list(self.path.iterdir()):
            if item not in keep and not item.name.startswith("attempt-"):
                item.rename(aside / item.name)

    def finish(self, record: Record) -> None:
        """Write record.json: from here on the run is done, or has failed."""
        self.check()
        with explain_write_errors(self.record):
            content = record.model_dump(mode="json", by_alias=True)
            content["schema"] = content.pop("schema_")
            write_json(self.record, content)
            if record.status == "done":
                self.checkpoint.unlink(missing_ok=True)

    def read(self) -> Record | None:
        """Return the record, or None where the run has not ended.

        Raises:
            Corrupt: record.json is torn or does not fit the schema, or the weights beside a finished run are
                unreadable.
        """
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            content["schema_"] = content.pop("schema", SCHEMA)
            record = Record.model_validate(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
            raise CorruptFile(f"{self.record}: {_one_line(error)}") from error
        if record.id != self.id:
            raise CorruptFile(f"{self.record}: is the record of {record.id}")
        if record.status == "done":
            check_weights(self.weights)
        return record

    def write_predictions(self, task: str, rows: Sequence[dict[str, Any]]) -> None:
        """Keep ``{"id", "prediction", "reference"}`` of every example of a task."""
        self.check()
        path = self.predictions(task)
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_bytes(path, gzip.compress(lines.encode("utf-8"), mtime=0))

    def read_predictions(self, task: str) -> list[dict[str, Any]]:
        """Return what :meth:`write_predictions` kept; CorruptFile where it cannot be read."""
        path = self.predictions(task)
        try:
            return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()]
        except (OSError, EOFError, ValueError) as error:
            raise CorruptFile(f"{path}: {_one_line(error)}") from error

    def append(self, path: Path, row: dict[str, Any]) -> None:
        """Append one JSON line to the curve or the segments, after whatever a crash left there."""
        self.check()
        with explain_write_errors(path), path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            else:
                torn = False
            file.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")


def check_weights(path: Path) -> None:
    """Check that a safetensors file is whole, by its header and its size; Corrupt where it is not."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"has {path.stat().st_size} bytes, its header says {8 + length + end}")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise CorruptFile(f"{path}: {_one_line(error)}") from error


def write_json(path: Path, content: Any, *, keep: bool = True) -> None:
    """Write JSON so that the file is whole or as before; what need not outlive a crash of the machine costs no wait."""
    with whole(path, keep=keep) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or as before."""
    with whole(path) as file:
        file.write(content)


@contextmanager
def whole(path: Path, *, keep: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing so that it is whole or as before: a draft, flushed to disk (``keep``), then renamed."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")  # no process of any host has the same
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            if keep:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def explain_write_errors(path: Path, flag: str = "--results") -> Iterator[None]:
    """Turn a failure to write (read-only folder, full disk) into one clear error; ``flag`` chooses another folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{path}: cannot be written ({reason}); give another folder with {flag}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file; a line torn by a crash is dropped, a missing file has no rows."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    return rows


def classify(error: BaseException) -> str:
    """Return the cause that tables print for an exception.

    >>> classify(MemoryError()), classify(FloatingPointError()), classify(KeyError())
    ('oom', 'nan', 'error')
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error).lower()
    if names & {"OutOfMemoryError", "MemoryError"} or "out of memory" in said or "not enough memory" in said:
        return "oom"
    table = {
        "FloatingPointError": "nan",
        "TimeoutError": "timeout",
        "TimeoutExpired": "timeout",
        "KeyboardInterrupt": "interrupted",
        "MethodError": "unsupported",
    }
    return next((cause for name, cause in table.items() if name in names), "error")


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def load_records(results: Path) -> tuple[list[Record], list[str]]:
    """Return every readable record below a results folder, and one line for each that is corrupt."""
    records, faults = [], []
    for path in sorted((results / "runs").glob("*/record.json")):
        try:
            record = RunDir(results, path.parent.name).read()
        except CorruptFile as fault:
            faults.append(str(fault))
            continue
        if record is not None:
            records.append(record)
    return records, faults


def load_results(path: str | Path = "results", tuning: bool = False) -> "pd.DataFrame":
    """Return the tidy frame: one row per run and task, with the task's main metric in the unit that tables print.

    Runs that tune are left out; with ``tuning`` they are all that is left.

    A failed run has a row per task with no score; a task whose metric failed has no score either and status "failed". A
    corrupt record, and one of a suite that is not registered here, are left out with a warning.
    """
    import warnings

    import pandas as pd

    records, faults = load_records(Path(path))
    rows: list[dict[str, Any]] = []
    for record in records:
        if (record.run.recipe.evaluate == "tuning") != tuning:
            continue
        try:
            rows += _rows(record)
        except UsageError as fault:
            faults.append(f"{record.id}: {fault}")
    for told in faults:
        warnings.warn(f"record left out: {told}", stacklevel=2)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    run = record.run
    train = record.memory.get("phases", {}).get("train", {})
    imported = (record.model_extra or {}).get("imported", {})  # its backbone is a folder beside it
    shared = {
        "run_id": record.id,
        "method": run.method,
        "label": run.title,
        "backbone": imported.get("backbone", run.backbone),
        "suite": run.suite,
        "seed": run.seed,
        **{key: record.parameters.get(key) for key in ("trainable", "total", "percent")},
        **{key: record.time.get(key) for key in ("train_seconds", "step_seconds", "samples_per_second")},
        "peak_memory_bytes": train.get("allocated"),
        "host_memory_bytes": train.get("host_rss"),
        **{f"analytic_{part}": record.memory.get("analytic", {}).get(part) for part in PARTS},
        "hardware": record.environment.get("hardware"),
        "precision": run.recipe.precision,
        "batch_size": run.recipe.batch_size,
        "synthetic": bool(record.data.get("synthetic")),
        "limited": record.limited,
        "tuning": run.recipe.evaluate == "tuning",
        "lr": run.recipe.lr,
        "data": run.data,
        "overrides": json.dumps(run.overrides),
        "settings": json.dumps(run.recipe.model_dump(by_alias=True, exclude={"eval_batch_size", "checkpoint_every"})),
        "finished": record.finished,
    }
    for task in run.task_list:
        score = record.scores.get(task.name)
        value = score.metrics.get(score.metric) if score else None
        cause = record.cause if score is None else (None if score.status == "done" else "error")
        status = score.status if score and record.status == "done" else record.status
        yield shared | {
            "task": task.name,
            "split": score.split if score else task.report_split,
            "metric": task.metric,
            "score": float("nan") if value is None else value,
            "status": status,
            "cause": cause,
        }


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
