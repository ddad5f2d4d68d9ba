"""All records of a results folder: as a list, and as the tidy frame that reports read."""

import gc
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import methods
from bench.errors import UsageError, near_matches
from bench.files import UnreadableFile
from bench.fingerprints import Expectations, Fingerprints, differences, labels, of_record
from bench.recipe import Recipe
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
    return _read_all(results, lambda name: RunDir(results, name).read())


def _read_all(results: Path, read: Callable[[str], Record | None]) -> tuple[list[Record], list[str]]:
    records, faults = [], []
    for name in run_names(results):
        try:
            record = read(name)
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
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _is_folder(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


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
    results: str | Path = "results",
    sweep: str | None = None,
    *,
    limited: bool = False,
    stale: bool = False,
    tryouts: bool = False,
) -> "pd.DataFrame":
    """Return the results that may be compared, as a tidy frame: one row per run and task.

    Every row has the task's main metric in the unit that tables print. Backbones, data roots and tasks stand in columns
    of their own; within them a label means one configuration, so that the mean over its rows is a mean over seeds.

    What would be mixed up with that is left out, and one warning says how much of what:

    - ``limited``: runs on a part of their examples or of the published data;
    - ``stale``: runs of other data, weights or methods than those that are there now;
    - ``tryouts``: runs whose settings are not those of their recipe and show in no label (:mod:`bench.tryouts`).

    Each of them stays with its flag.

    Args:
        results: the results folder.
        sweep: only the runs of this sweep, as it was started last, or as its file has it; these are no try-outs.
        limited: keep limited runs.
        stale: keep stale runs.
        tryouts: keep try-outs.

    Runs that tune are never among them. A failed run has a row per task with no score; a task whose metric failed has
    no score either and status "failed". A corrupt record, and one of a suite that is not registered here, are left out
    with a warning.

    Raises:
        UsageError: there is no such folder, or no such sweep.
    """
    from bench.tryouts import planned_runs, tryouts_among

    results = Path(results)
    require_results(results)
    wanted = planned_runs(results, sweep) if sweep is not None else None
    records = [record for record in _indexed(results, tuning=False) if wanted is None or record.id in wanted]
    frame = _frame(records, Expectations({}))
    reasons: list[tuple[str, set[str]]] = []
    if not tryouts and wanted is None:
        ids = tryouts_among(results, {record.id: record.run for record in records})
        reasons.append(("try-outs, with settings that no label shows (tryouts=True or sweep=NAME keeps them)", ids))
    if not limited:
        reasons.append(("limited (limited=True)", {record.id for record in records if record.limited}))
    if not stale:
        reasons.append(("stale (stale=True)", set(frame.loc[frame["stale"].astype(bool), "run_id"])))
    parts, dropped = [], set[str]()
    for why, ids in reasons:
        if number := len(ids - dropped):
            parts.append(f"{number} {why}")
        dropped |= ids
    if parts:
        warnings.warn(f"{results}: runs left out: {'; '.join(parts)}", stacklevel=2)
    return frame[~frame["run_id"].isin(dropped)].reset_index(drop=True)


def load_frame(
    results: Path, tuning: bool = False, expected: Expectations | None = None, *, missing_ok: bool = False
) -> "pd.DataFrame":
    """Return the tidy frame of all records, those included that :func:`load_results` leaves out.

    Runs that tune are left out; with ``tuning`` they are all that is left. Rows with another ``fingerprint`` are of
    runs on other data, weights or methods and have no common mean; with ``expected``, ``stale`` says whether these have
    changed since.

    Raises:
        UsageError: there is no such folder, unless ``missing_ok``: before the first run that is no mistake.
    """
    if not missing_ok:
        require_results(results)
    return _frame(_indexed(results, tuning), expected)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Let the collector rest in a block or, as a decorator, in a function.

    It would look at every object again and again while ten thousand records become rows, and none of them is garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_garbage_collection()
def _indexed(results: Path, tuning: bool) -> list[Record]:
    """Return what a frame needs of the records of the runs that tune, or of the others; those that cannot be read are
    left out with a warning."""
    from bench.record_index import RecordIndex

    index = RecordIndex(results)
    records, faults = _read_all(results, index.read)
    index.save()
    _warn_of(faults)
    return [record for record in records if (record.run.recipe.evaluate == "tuning") == tuning]


@_no_garbage_collection()
def _frame(records: list[Record], expected: Expectations | None) -> "pd.DataFrame":
    import pandas as pd

    names = labels(records)
    current: dict[str, Fingerprints] = {}
    faults: list[str] = []
    rows: list[dict[str, Any]] = []
    for record in records:
        made_of = {"fingerprint": names[record.id], "stale": bool(expected and _changes(record, expected, current))}
        try:
            rows += [row | made_of for row in _rows(record)]
        except UsageError as fault:
            faults.append(f"{record.id}: {fault}")
    _warn_of(faults)
    return pd.DataFrame({column: [row[column] for row in rows] for column in COLUMNS}, columns=COLUMNS)


def _warn_of(faults: list[str]) -> None:
    for line in faults:
        warnings.warn(f"record left out: {line}", stacklevel=5)


def _changes(record: Record, expected: Expectations, current: dict[str, Fingerprints]) -> list[str]:
    """Return what has changed since a run; ``current`` keeps the fingerprints that runs would have now."""
    run = record.run
    key = json.dumps([run.backbone, run.method, run.overrides, run.suite, run.data], sort_keys=True, default=str)
    if key not in current:
        current[key] = expected.of(run)
    return differences(of_record(record), current[key])


@cache
def _settings(recipe: Recipe) -> str:
    return json.dumps(recipe.model_dump(by_alias=True, exclude={"eval_batch_size", "checkpoint_every"}))


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
        "settings": _settings(run.recipe),
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
