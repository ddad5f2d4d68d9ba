"""A run from its directory: the model with its kept weights, and its evaluation without training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import Execution, Run, validated
from bench.errors import UsageError
from bench.events import Report, RunEvent, silent
from bench.files import CorruptFile
from bench.record_schema import Record
from bench.run_dir import RunDir, check_weights

if TYPE_CHECKING:
    from bench.backbones import VLModel


def opened(path: Path) -> tuple[RunDir, Run]:
    """Return a run directory and its configuration; a language model kept beside is the run's backbone.

    Raises:
        UsageError: there is no run in this directory.
        Corrupt: its configuration or its weights cannot be what was written.
    """
    folder = RunDir.at(path)
    try:
        content = json.loads(folder.run.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: is no run directory, it has no run.json") from None
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder.run}: cannot be read ({error})") from error
    run = validated(Run, content, str(folder.run))
    check_weights(folder.weights)
    beside = folder.backbone
    return folder, run.model_copy(update={"backbone": str(beside.resolve())}) if beside.is_dir() else run


def load(path: Path, *, feat_dim: int, device: Any = "cpu") -> "VLModel":
    """Return the model of a run directory with its kept weights, in eval mode.

    ``feat_dim`` is the number of columns of the visual features. Raises what :func:`opened` does, and MethodError where
    the weights do not fit.
    """
    from bench.run import build

    folder, run = opened(path)
    model, handle = build(run, feat_dim, device)
    handle.load(folder.weights)
    return model.eval()


def evaluate(path: Path, execution: Execution, report: Report = silent) -> Record:
    """Predict and score with the kept weights of a run directory that has no record, and write its record.

    Raises:
        UsageError: there is no run there, or it has a record; the data root is not there.
        MethodError: the weights do not fit.
    """
    from bench.run import Work

    folder, run = opened(path)
    if folder.record.exists():
        raise UsageError(
            f"{folder.record}: is there already; nothing is overwritten (`bench score` scores kept predictions again)"
        )
    work = Work(run, execution, folder, report)
    report(RunEvent("start", run.id))
    device, memory = work.begin()
    root = work.find_data()
    model, handle = work.build(root, device, memory)
    handle.load(folder.weights)
    scores = work.evaluate(model, root, device, memory)
    imported = folder.imported
    if imported.exists():
        work.facts["imported"] = json.loads(imported.read_text(encoding="utf-8"))
    record = work.ended(status="done", scores=scores)
    folder.finish(record)
    report(RunEvent("end", run.id, record.status))
    return record
