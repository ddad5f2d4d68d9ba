"""Writing the trained weights of a finished run for programs that do not know this package."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from bench import kept_weights, stages, suites
from bench.config import MINI, Run
from bench.errors import UsageError
from bench.files import explain_write_errors, write_json
from bench.run_dir import RunDir

PROJECTOR = "visual_embedding."  # begins the names of the projector's tensors


def export_run(run_dir: RunDir, form: str, out: Path) -> list[Path]:
    """Write a run to a new folder and return the paths of its files.

    "peft" writes what ``peft.PeftModel.from_pretrained(language_model, folder)`` reads, and ``projector.safetensors``,
    which PEFT's format has no place for; "safetensors" writes all trained tensors as ``trained.safetensors``. Both come
    with ``run.json``: the configuration of the run and its scores.

    Raises:
        UsageError: the run is not finished, or the folder is there already or cannot be written.
        MethodError: PEFT's format cannot hold the method, or the weights do not fit.
    """
    record = run_dir.read()
    if record is None or record.status != "done":
        raise UsageError(f"{run_dir.path}: is no finished run; `python -m bench show {run_dir.id}` tells its state")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; give a new folder with --out")
    folder, run = kept_weights.open_run(run_dir.path)
    draft = out.parent / f".{out.name}.{uuid.uuid4().hex[:12]}"
    with explain_write_errors(out, "--out"):
        try:
            draft.mkdir(parents=True)
            tensors = _tensors(folder.weights)
            about = {"run": run.id, "method": run.method, "backbone": run.backbone, "suite": run.suite}
            if form == "peft":
                _write_peft(folder, run, tensors, draft)
                tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(PROJECTOR)}
            if tensors:
                name = "projector" if form == "peft" else "trained"
                save_file(tensors, draft / f"{name}.safetensors", metadata={k: str(v) for k, v in about.items()})
            scores = {name: score.value for name, score in record.scores.items()}
            write_json(draft / "run.json", {**json.loads(run.model_dump_json(by_alias=True)), "scores": scores})
            if out.is_dir():
                out.rmdir()
            draft.rename(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return sorted(out.iterdir())


def _tensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _write_peft(folder: RunDir, run: Run, tensors: dict[str, Any], out: Path) -> None:
    model = stages.seeded_model(run, _columns(run, tensors), "cpu")
    handle = stages.with_method(run, model)
    handle.load(folder.weights)
    handle.export_peft(out)


def _columns(run: Run, tensors: dict[str, Any]) -> int:
    """Return the width of the features: that of the projector's first layer, or else what the suite publishes."""
    widths = [t.shape[1] for name, t in tensors.items() if name.startswith(PROJECTOR) and t.ndim == 2]
    return int(max(widths, default=suites.get(run.suite).columns(miniature=run.data == MINI)))
