"""A stand-in for ``bench.run``: its run_one writes true records in milliseconds, and fails, dies or waits on demand.

The environment says what happens, so that worker processes do it too: ``FAKE_RUNS`` maps seeds to one of ERRORS or
SURROUNDINGS, "kill", "interrupt" or "wait"; ``FAKE_SECONDS`` is how long a run takes. ``ledger.txt`` in the results
folder has a line per run.
"""

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.config import Execution, Run
from bench.errors import UsageError
from bench.events import Listener, RunEvent, RunHold, silent
from bench.record_schema import Failure, Record, Score, classify, now
from bench.run_dir import RunDir
from bench.surroundings import explain
from methods.core.errors import MethodError

ERRORS: dict[str, Callable[[], Exception]] = {
    "oom": lambda: MemoryError("no more"),
    "nan": lambda: FloatingPointError("the loss is NaN"),
    "timeout": lambda: TimeoutError("too long"),
    "error": lambda: KeyError("whatever"),
    "unsupported": lambda: MethodError("not on this backbone"),
}
SURROUNDINGS: dict[str, Callable[[], Exception]] = {
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt"),
    "permission": lambda: PermissionError(errno.EACCES, "Permission denied", "annotations.json"),
    "file": lambda: FileNotFoundError(errno.ENOENT, "No such file or directory", "1.h5"),
    "program": lambda: subprocess.CalledProcessError(1, ["java"]),
    "device": lambda: RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    "input": lambda: UsageError("a.json: no such file"),
}
WEIGHTS = b"\x02\0\0\0\0\0\0\0{}"  # a safetensors file without tensors


def run_one(
    run: Run, execution: Execution, results: Path, report: Listener = silent, hold: RunHold | None = None
) -> Record:
    folder = RunDir(results, run.id, hold)
    folder.begin(run)
    report(RunEvent("start", run.id))
    begun = time.time()
    what = json.loads(os.environ.get("FAKE_RUNS", "{}")).get(str(run.seed), "done")
    try:
        time.sleep(600 if what == "wait" else float(os.environ.get("FAKE_SECONDS", "0")))
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "interrupt":
            raise KeyboardInterrupt("SIGINT")
        outcome: dict[str, object] = {"status": "done", "scores": {t.name: score(t.metric) for t in run.task_list}}
        folder.write(folder.weights, WEIGHTS)
        for task in run.task_list:
            folder.write_predictions(task.name, [])
        if what in ERRORS | SURROUNDINGS:
            raise (ERRORS | SURROUNDINGS)[what]()
    except KeyboardInterrupt:
        folder.write(folder.checkpoint, b"half way")
        raise
    except Exception as error:
        if fault := explain(error):
            raise fault from error
        failure = Failure(phase="train", type=type(error).__name__, message=str(error))
        outcome = {"status": "failed", "cause": classify(error), "error": failure}
    with (results / "ledger.txt").open("a") as ledger:
        ledger.write(json.dumps([run.id, begun, time.time(), os.environ.get("CUDA_VISIBLE_DEVICES")]) + "\n")
    record = Record.model_validate({"id": run.id, "run": run, "finished": now(), **outcome})
    folder.finish(record)
    report(RunEvent("end", run.id, record.cause or record.status))
    return record


def score(metric: str) -> Score:
    return Score(status="done", split="test", metric=metric, metrics={metric: 50.0}, n=2)


def ledger(results: Path) -> list[tuple[str, float, float, str | None]]:
    """What has been run: id, begin, end, visible GPUs."""
    path = results / "ledger.txt"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def also_in_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every Python process started from here on find this module as ``bench.run``."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys, fake_runs\nsys.modules['bench.run'] = fake_runs\n")
    tests = Path(__file__).resolve().parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(tests), str(tests.parent)]))
