"""Turning a checkpoint file of the official code into a run directory of this suite."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import methods
from bench import backbones, official, suites, tasks
from bench.config import Run, Settings, resolve
from bench.errors import UsageError
from bench.files import explain_write_errors, require_regular_file, write_json
from bench.official.method_names import resolve_official_name
from bench.official.option_inference import infer_feat_dim
from bench.run_dir import RunDir
from methods.core.errors import summarise_names

if TYPE_CHECKING:
    from torch import Tensor


def import_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    method: str,
    backbone: str,
    suite: str,
    task_names: tuple[str, ...] = (),
    data: str | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Write the run directory ``out`` for a checkpoint of the official code, ready to evaluate.

    It also contains ``backbone/``, the language model of the checkpoint. No published backbone can take its place,
    because the rows of added tokens are drawn anew in every official run and are not trained.

    Args:
        checkpoint: a file written by ``torch.save``, with tensors under their official names.
        out: the directory; it appears complete or not at all.
        method: a name that :func:`~bench.official.method_names.resolve_official_name` accepts.
        backbone: the backbone that was tuned: a name, or a folder with configuration and tokeniser.
        suite: the suite that it was trained on.
        task_names: the tasks of the suite that it was trained on, all if empty.
        data: logical name of the data root to evaluate on.
        recipe: the recipe that decides about decoding, the number of boxes, frames and so on.
        settings: recipe fields, and options of the method that cannot be read off tensors.

    Raises:
        UsageError: the directory exists already, the file contains anything but tensors, or they do not fit.
        MethodError: the method does not have an option.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another folder with --out")
    requested = resolve_official_name(method)
    given = Settings.classify(settings or {}, [requested.name])
    names = tuple(tasks.get(name).name for name in task_names) or suites.get(suite).official_tasks
    prefix, tensors = read_checkpoint(checkpoint)
    tokenizer = backbones.tokenizer(backbone)
    loaded = official.read(
        tensors,
        backbone=backbone,
        method=methods.get(requested.name, **given.options),
        feat_dim=infer_feat_dim(tensors),
        tasks=names,
    )
    vocabulary = loaded.model.lm.config.vocab_size
    expected = max(tokenizer.vocab_size, backbones.shape(backbone).vocab)
    if vocabulary != expected:
        raise UsageError(
            f"{checkpoint}: has {vocabulary} words, {backbone!r} with the official tokens has {expected}; "
            "name the backbone that was tuned"
        )
    resolved = loaded.method
    run = resolve(
        backbone,
        resolved.name,
        suite,
        data=data,
        recipe=recipe,
        task_names=names,
        settings=Settings(given.recipe, resolved.overrides),
        label=f"{resolved.name} (official)",
    )
    with _appearing(out) as draft:
        loaded.handle.save(draft.weights)
        loaded.handle.detach()
        loaded.model.lm.save_pretrained(draft.backbone)
        tokenizer.hf_tokenizer.save_pretrained(draft.backbone)
        source = {"checkpoint": checkpoint.name, "sha256": _sha256(checkpoint), "method": method, "backbone": backbone}
        source |= {"prefix": prefix} if prefix else {}
        write_json(draft.imported, source)
        run = run.model_copy(update={"backbone": str(RunDir.at(out).backbone.resolve())})
        write_json(draft.run, run.model_dump(mode="json", by_alias=True))
    return run


def read_checkpoint(path: Path) -> tuple[str, dict[str, "Tensor"]]:
    """Return the tensors of a file written by ``torch.save``, and the prefix that was taken off all names.

    The official trainer, which wraps the model for distributed training, writes "module.". No code in the file is
    executed.

    Raises:
        UsageError: there is no such file, it is no checkpoint, or it contains anything but tensors by name.
    """
    import torch

    from methods.core.handle import without_wrapper_prefix

    try:
        require_regular_file(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # torch.load raises errors of many kinds for broken files
        objects = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds objects ({objects[1]}) beside tensors" if objects else "is no whole checkpoint of torch.save"
        raise UsageError(
            f"{path}: {what}; only files of tensors are read (torch.load with weights_only=True)"
        ) from None
    values = list(content.values()) if isinstance(content, dict) else [content]
    others = sorted({type(value).__name__ for value in values if not torch.is_tensor(value)})
    if others or not values or not isinstance(content, dict):
        contents = ", ".join(others) or type(content).__name__
        raise UsageError(f"{path}: holds {contents}; expected a state dict, tensors under their official names")
    if broken := [str(name) for name, tensor in content.items() if not torch.isfinite(tensor).all()]:
        raise UsageError(
            f"{path}: {'; '.join(summarise_names('not finite', broken, limit=4))}; take another checkpoint"
        )
    return without_wrapper_prefix({str(name): tensor for name, tensor in content.items()})


@contextmanager
def _appearing(folder: Path) -> Iterator[RunDir]:
    """A run directory to write into, which takes its name once everything is there."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    with explain_write_errors(folder, "--out"):
        draft.mkdir(parents=True)
        try:
            yield RunDir.at(draft)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
