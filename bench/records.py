"""All records of a results folder: as a list, and as the tidy frame that reports read."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import methods
from bench.errors import UsageError, near_matches
from bench.files import UnreadableFile
from bench.fingerprints import Expectations, differences, labels, of_record
from bench.record_schema import Record
from bench.run_dir import RunDir
from methods.core.errors import MethodError

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("weights", "trainable", "gradients", "optimizer", "activations")
OTHER_FAMILY = "other"
COLUMNS = [
    *("run_id", "method", "family", "label", "backbone", "suite", "task", "task_label", "split", "metric", "score"),
    *("seed", "status", "cause"),
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
        "fingerprint",
        "stale",
    ),
]


def load_records(results: Path) -> tuple[list[Record], list[str]]:
    """Return every readable record below a results folder, and one line for each that is corrupt."""
    records, faults = [], []
    for name in run_names(results):
        try:
            record = RunDir(results, name).read()
        except UnreadableFile as fault:
            faults.append(str(fault))
            continue
        if record is not None:
            records.append(record)
    return records, faults


def run_names(results: Path) -> list[str]:
    """Return the names of the run directories of a results folder; none where there is no such folder.

    Raises:
        UsageError: this process may not look into it.
    """
    folder = results / "runs"
    try:
        return sorted(name for name in os.listdir(folder) if os.path.isdir(folder / name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror or error})") from error


def require_results(results: Path) -> None:
    """Raise UsageError where a results folder is not there, with near matches among the folders beside it."""
    if results.is_dir():
        return
    with suppress(OSError):
        folders = [path.name for path in results.absolute().parent.iterdir() if path.is_dir()]
        raise UsageError(f"{results}: no such results folder{near_matches(results.name, folders)}")
    raise UsageError(f"{results}: no such results folder")


def family(method: str) -> str:
    """Return the family of a method for tables, colours and markers; "other" for one that is not registered here."""
    try:
        return methods.get(method).family
    except MethodError:
        return OTHER_FAMILY


def load_results(
    path: str | Path = "results",
    tuning: bool = False,
    expected: Expectations | None = None,
    *,
    missing_ok: bool = False,
) -> "pd.DataFrame":
    """Return the tidy frame: one row per run and task, with the task's main metric in the unit that tables print.

    Runs that tune are left out; with ``tuning`` they are all that is left. Rows with another ``fingerprint`` are of
    runs on other data, weights or methods and have no common mean; with ``expected``, ``stale`` says whether these have
    changed since.

    A failed run has a row per task with no score; a task whose metric failed has no score either and status "failed". A
    corrupt record, and one of a suite that is not registered here, are left out with a warning.

    Raises:
        UsageError: there is no such folder, unless ``missing_ok``: before the first run that is no mistake.
    """
    import warnings

    import pandas as pd

    if not missing_ok:
        require_results(Path(path))
    records, faults = load_records(Path(path))
    names = labels(records)
    rows: list[dict[str, Any]] = []
    for record in records:
        if (record.run.recipe.evaluate == "tuning") != tuning:
            continue
        try:
            rows += [row | _made_of(record, names, expected) for row in _rows(record)]
        except UsageError as fault:
            faults.append(f"{record.id}: {fault}")
    for fault_line in faults:
        warnings.warn(f"record left out: {fault_line}", stacklevel=2)
    return pd.DataFrame(rows, columns=COLUMNS)


def _made_of(record: Record, names: Mapping[str, str], expected: Expectations | None) -> dict[str, Any]:
    current = expected.of(record.run) if expected else {}
    return {"fingerprint": names[record.id], "stale": bool(differences(of_record(record), current))}


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    run = record.run
    train = record.memory.get("phases", {}).get("train", {})
    imported = record.imported or {}  # the backbone of an imported run is a folder in its directory
    shared = {
        "run_id": record.id,
        "method": run.method,
        "family": family(run.method),
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
            "task_label": task.label,
            "split": score.split if score else task.report_split,
            "metric": task.metric,
            "score": float("nan") if value is None else value,
            "status": status,
            "cause": cause,
        }
