"""The directory of one run, written so that a run is done or not done and never half.

Layout of ``results/runs/<run id>/``: ``run.json`` (the complete configuration), ``fingerprints.json`` (what is behind
its names), ``record.json`` (the outcome; its
presence is the end of the run), ``curve.jsonl`` and ``validation.jsonl`` (losses and validation scores on the way),
``predictions/<task>.jsonl.gz``, ``scores/<task>.json.gz`` (the score of every example), ``weights.safetensors``
(trained tensors only), ``best.safetensors`` and ``best.json`` (the best epoch so far), ``segments.jsonl``,
``log.txt``, ``attempts/`` (who tried, and how it ended), ``claim/`` (who works on it), and while it runs
``progress.json`` and ``checkpoint.pt``. ``cancelled`` is there where a person stopped it. ``evaluations/<number>/`` has
the predictions and scores of a later evaluation, ``predicted/<split>/`` predictions of a split without scores. A run
made of a released checkpoint also has ``imported.json`` (which one) and ``backbone/`` (its language model and
tokeniser).
"""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from bench.config import Run
from bench.errors import UsageError
from bench.events import RunHold
from bench.files import (
    CorruptFile,
    UnreadableFile,
    explain_write_errors,
    is_draft,
    not_permitted,
    one_line,
    parse_json,
    read_bytes,
    read_json_lines,
    write_bytes,
)
from bench.fingerprints import Fingerprints
from bench.guarded_folder import GuardedFolder
from bench.record_schema import SCHEMA, Record
from bench.validation import validated
from bench.weights_file import check_weights


class ExampleScores(BaseModel):
    """The content of ``scores/<task>.json.gz``: the reported metric of every example, in the order of the split."""

    model_config = ConfigDict(frozen=True)

    metric: str
    edition: str | None = None
    split: str
    ids: list[str]
    scores: list[FiniteFloat]


class RunDir(GuardedFolder):
    """The files of one run.

    With a ``hold``, everything that writes raises :class:`~bench.events.OwnershipLost`, and writes nothing, where
    another process has taken the run over.
    """

    def __init__(self, results: Path, run_id: str, hold: RunHold | None = None) -> None:
        super().__init__(results / "runs" / run_id, hold)
        self.id = run_id

    @classmethod
    def at(cls, path: Path) -> "RunDir":
        """Return the run directory at ``path``, wherever that is; its id is the name of the folder."""
        folder = cls(path, path.resolve().name)
        folder.path = path
        return folder

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def fingerprints(self) -> Path:
        """What the run is made of (:mod:`bench.fingerprints`), written when it begins; a checkpoint belongs to it."""
        return self.path / "fingerprints.json"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def curve(self) -> Path:
        return self.path / "curve.jsonl"

    @property
    def validation(self) -> Path:
        return self.path / "validation.jsonl"

    @property
    def segments(self) -> Path:
        return self.path / "segments.jsonl"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def best_weights(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def best_epochs(self) -> Path:
        """JSON lines ``{"step", "mean"}``, one for every epoch that was the best so far; the last one is the best."""
        return self.path / "best.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def claim(self) -> Path:
        return self.path / "claim"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts"

    @property
    def cancelled(self) -> Path:
        return self.path / "cancelled"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def backbone(self) -> Path:
        """The folder with the language model and tokeniser of a run that was imported."""
        return self.path / "backbone"

    @property
    def imported(self) -> Path:
        return self.path / "imported.json"

    def evaluation(self, number: int) -> Path:
        """Return the folder of a later evaluation (:class:`~bench.record_schema.Evaluation`)."""
        return self.path / "evaluations" / str(number)

    def predicted(self, split: str) -> Path:
        """Return the folder of the predictions of a split that is not scored (:mod:`bench.predict`)."""
        return self.path / "predicted" / split

    def new_evaluation(self) -> int:
        """Make the folder of one more evaluation and return its number, from 1."""
        self.check()
        folder = self.evaluation(0).parent
        with explain_write_errors(folder):
            folder.mkdir(exist_ok=True)
            number = 1 + max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0)
            self.evaluation(number).mkdir()
        return number

    def predictions(self, task: str, evaluation: int | None = None) -> Path:
        """Return the file of a task's predictions, of the reported split or of a later evaluation."""
        return self._outputs(evaluation) / "predictions" / f"{task}.jsonl.gz"

    def scores(self, task: str, evaluation: int | None = None) -> Path:
        """Return the file with the score of every example, of the reported split or of a later evaluation."""
        return self._outputs(evaluation) / "scores" / f"{task}.json.gz"

    def _outputs(self, evaluation: int | None) -> Path:
        return self.path if evaluation is None else self.evaluation(evaluation)

    def begin(self, run: Run) -> None:
        """Make the directory and write the configuration; the files of a corrupt or failed attempt are put aside.

        Drafts of processes that were killed while they wrote are removed.

        Raises:
            UsageError: the directory, or a file in it that will be replaced, cannot be written.
        """
        self.check()
        with explain_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if self.record.exists():
                self.put_aside(keep=(self.claim, self.attempts), last=self.record)
            for draft in self.drafts():
                draft.unlink(missing_ok=True)
            self.write_json(self.run, run.model_dump(mode="json", by_alias=True))
        for folder in (self.path, self.predictions("any").parent, self.scores("any").parent):
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
                raise UsageError(f"{folder}: is not yours to write; ask its owner for permission")

    def drafts(self) -> list[Path]:
        """Return the drafts that killed processes have left beside the files of this run."""
        folders = (self.path, self.attempts, self.predictions("any").parent, self.scores("any").parent)
        paths = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return sorted(path for path in paths if is_draft(path) and path.is_file() and not path.is_symlink())

    def put_training_aside(self, reason: str) -> str:
        """Move what an interrupted training has left into ``attempt-N`` with a note, so that it begins anew; return the
        note."""
        self.check()
        keep = (self.claim, self.attempts, self.run, self.fingerprints, self.progress, self.cancelled, self.log)
        with explain_write_errors(self.path):
            aside = self.put_aside(keep, last=self.checkpoint)
            note = f"checkpoint.pt {reason}; it is in {aside.name}, and the training began anew"
            write_bytes(aside / "note.txt", f"{note}\n".encode("utf-8", errors="backslashreplace"))
        return note

    def finish(self, record: Record) -> None:
        """Write record.json: from here on the run is done, or has failed."""
        self.check()
        with explain_write_errors(self.record):
            content = record.model_dump(mode="json", by_alias=True)
            content["schema"] = content.pop("schema_")
            self.write_json(self.record, content)
            if record.status == "done":
                self.remove(self.checkpoint)

    def read(self) -> Record | None:
        """Return the record, or None where the run has not ended.

        Raises:
            CorruptFile: record.json is torn or does not fit the schema, or the weights of a finished run are torn.
            UnreadableFile: this process is not permitted to read record.json. Weights that it may not read are taken
                on trust.
        """
        try:
            content = parse_json(read_bytes(self.record))
            if not isinstance(content, dict):
                raise ValueError("is no JSON object")
            content["schema_"] = content.pop("schema", SCHEMA)
            record = Record.model_validate(content)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise UnreadableFile(f"{self.record}: {not_permitted(self.record)}") from error
        except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
            raise CorruptFile(f"{self.record}: {one_line(error)}") from error
        if record.id != self.id:
            raise CorruptFile(f"{self.record}: id: is the record of {record.id}")
        if fault := record.fault() or self._other_run(record):
            raise CorruptFile(f"{self.record}: {fault}")
        if record.status == "done":
            try:
                check_weights(self.weights)
            except CorruptFile:
                raise
            except UnreadableFile:
                pass  # another person's, who has finished the run
        return record

    def read_run(self) -> Run:
        """Return the configuration of the run.

        Raises:
            UsageError: there is none, or it does not fit.
            CorruptFile: it cannot be read.
        """
        try:
            content = parse_json(read_bytes(self.run))
        except FileNotFoundError:
            raise UsageError(f"{self.path}: is no run directory, it has no run.json") from None
        except PermissionError as error:
            raise UnreadableFile(f"{self.run}: {not_permitted(self.run)}") from error
        except (OSError, ValueError) as error:
            raise CorruptFile(f"{self.run}: cannot be read ({one_line(error)})") from error
        return validated(Run, content, str(self.run))

    def _other_run(self, record: Record) -> str:
        """Say in which fields the run of a record is another than that of run.json; "" where it is the same.

        The id is not computed again: that of a record of an earlier version may have become another. The backbone of
        an imported run is a folder in its directory, whose path changes when the directory is moved.
        """
        try:
            run = self.read_run()
        except UsageError:
            return ""  # the record has the whole configuration as well
        before, after = (item.model_dump(exclude={"label"}) for item in (run, record.run))
        if self.backbone.is_dir():
            before["backbone"] = after["backbone"]
        names = [name for name in before if before[name] != after[name]]
        return f"run: is another one than that of run.json beside it ({', '.join(names)} differ)" if names else ""

    def write_fingerprints(self, content: Fingerprints) -> None:
        self.check()
        with explain_write_errors(self.fingerprints):
            self.write_json(self.fingerprints, content)

    def read_fingerprints(self) -> Fingerprints:
        """Return what :meth:`write_fingerprints` wrote; nothing where it is not there or cannot be read."""
        try:
            content = parse_json(read_bytes(self.fingerprints))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and all(isinstance(v, dict) for v in content.values()) else {}

    def read_curve(self) -> list[dict[str, Any]]:
        """Return the points of the training curve; lines that are none are left out."""
        return read_json_lines(self.curve, ("step", "loss"))

    def write_predictions(self, task: str, rows: Sequence[dict[str, Any]], evaluation: int | None = None) -> None:
        """Write ``{"id", "prediction", "reference"}`` of every example of a task."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._write_compressed(self.predictions(task, evaluation), lines)

    def read_predictions(self, task: str, evaluation: int | None = None) -> list[dict[str, Any]]:
        """Return what :meth:`write_predictions` wrote; CorruptFile where it cannot be read."""
        path = self.predictions(task, evaluation)
        try:
            lines = gzip.decompress(read_bytes(path)).decode("utf-8").split("\n")  # a text may hold other separators
            rows = [parse_json(line) for line in lines if line]
        except PermissionError as error:
            raise UnreadableFile(f"{path}: {not_permitted(path)}") from error
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise CorruptFile(f"{path}: {one_line(error)}") from error
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or not {"id", "prediction", "reference"} <= row.keys():
                raise CorruptFile(f"{path}: line {number} is no object with id, prediction and reference")
            if not isinstance(row["id"], str) or not isinstance(row["prediction"], str):
                raise CorruptFile(f"{path}: line {number}: id and prediction are no texts")
        return rows

    def write_scores(self, task: str, scores: ExampleScores, evaluation: int | None = None) -> None:
        """Write the score of every example of a task."""
        self._write_compressed(self.scores(task, evaluation), scores.model_dump_json())

    def read_scores(self, task: str, evaluation: int | None = None) -> ExampleScores | None:
        """Return the score of every example, or None where they were not written (by older versions).

        Raises:
            CorruptFile: the file cannot be read, or has not one score for every id.
        """
        path = self.scores(task, evaluation)
        try:
            scores = ExampleScores.model_validate_json(gzip.decompress(read_bytes(path)))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise UnreadableFile(f"{path}: {not_permitted(path)}") from error
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise CorruptFile(f"{path}: {one_line(error)}") from error
        if len(scores.ids) != len(scores.scores):
            raise CorruptFile(f"{path}: has {len(scores.ids)} ids and {len(scores.scores)} scores")
        return scores

    def adopt_evaluation(self, number: int, tasks: Sequence[str]) -> None:
        """Make predictions and scores of a later evaluation those of the run; the earlier ones go to ``replaced/`` in
        the folder of the evaluation."""
        self.check()
        for task in tasks:
            for file in (self.predictions, self.scores):
                current, new = file(task), file(task, number)
                if current.exists():
                    aside = self.evaluation(number) / "replaced" / current.relative_to(self.path)
                    aside.parent.mkdir(parents=True, exist_ok=True)
                    current.rename(aside)
                if new.exists():
                    current.parent.mkdir(exist_ok=True)
                    new.rename(current)

    def _write_compressed(self, path: Path, text: str) -> None:
        """Write gzipped UTF-8 text atomically; equal texts give equal files."""
        self.check()
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path, gzip.compress(text.encode("utf-8", errors="backslashreplace"), mtime=0))

    def save_weights(self, save: Callable[[Path], None], path: Path) -> None:
        """Write a file of weights with a function that writes to a path."""
        with explain_write_errors(path), self.replacing(path) as draft:
            save(draft)

    def append(self, path: Path, row: dict[str, Any]) -> None:
        """Append one JSON line to one of the run's ``.jsonl`` files."""
        with explain_write_errors(path):
            self.append_line(path, row)

    def flush(self) -> None:
        """Make sure that the lines that were appended survive a crash of the machine, as a checkpoint does."""
        for path in (self.curve, self.validation, self.best_epochs):
            with suppress(OSError), path.open("rb") as file:
                os.fsync(file.fileno())
