"""From a released checkpoint file to a run directory of this suite."""

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
from bench.official.method_names import called
from bench.official.option_inference import feat_dim
from bench.records import explain_write_errors, write_json

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

    Beside the usual files it holds ``backbone/``, the language model as the checkpoint has it. No published backbone
    can take its place: the rows of added tokens are drawn anew in every official run and stay as drawn.

    Args:
        checkpoint: a file that ``torch.save`` wrote: tensors under their official names.
        out: the directory; it appears complete or not at all.
        method: a name that :func:`~bench.official.method_names.called` knows.
        backbone: what was tuned: a name, or a folder with configuration and tokeniser.
        suite: the suite that it was trained on.
        task_names: the tasks among them that it was trained on, all if empty.
        data: logical name of the data root to evaluate on.
        recipe: the recipe whose decoding, number of boxes, frames, ... hold.
        settings: recipe fields and options of the method that tensors do not tell.

    Raises:
        UsageError: the directory is there already, the file holds anything but tensors, or they do not fit.
        MethodError: an option that the method does not have.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another folder with --out")
    asked = called(method)
    given = Settings.classify(settings or {}, [asked.name])
    names = tuple(tasks.get(name).name for name in task_names) or suites.get(suite).official_tasks
    tensors = read_checkpoint(checkpoint)
    text = backbones.tokenizer(backbone)
    loaded = official.read(
        tensors,
        backbone=backbone,
        method=methods.get(asked.name, **given.options),
        feat_dim=feat_dim(tensors),
        tasks=names,
    )
    there, wanted = loaded.model.lm.config.vocab_size, max(text.vocab_size, backbones.shape(backbone).vocab)
    if there != wanted:
        raise UsageError(
            f"{checkpoint}: has {there} words, {backbone!r} with the official tokens has {wanted}; "
            "name the backbone that was tuned"
        )
    chosen = loaded.chosen
    run = resolve(
        backbone,
        chosen.name,
        suite,
        data=data,
        recipe=recipe,
        tasks_=names,
        settings=Settings(given.recipe, chosen.overrides),
        label=f"{chosen.name} (official)",
    )
    with _appearing(out) as draft:
        loaded.handle.save(draft / "weights.safetensors")
        loaded.handle.detach()
        loaded.model.lm.save_pretrained(draft / "backbone")
        text.hf.save_pretrained(draft / "backbone")
        source = {"checkpoint": checkpoint.name, "sha256": _sha256(checkpoint), "method": method, "backbone": backbone}
        write_json(draft / "imported.json", source)
        run = run.model_copy(update={"backbone": str((out / "backbone").resolve())})
        write_json(draft / "run.json", run.model_dump(mode="json", by_alias=True))
    return run


def read_checkpoint(path: Path) -> dict[str, "Tensor"]:
    """Return the tensors of a file that ``torch.save`` wrote; nothing in it is executed.

    Raises:
        UsageError: there is no such file, it is no checkpoint, or it holds anything but tensors by name.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # torch lets through whatever its readers stumble over
        objects = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds objects ({objects[1]}) beside tensors" if objects else "is no whole checkpoint of torch.save"
        raise UsageError(
            f"{path}: {what}; only files of tensors are read (torch.load with weights_only=True)"
        ) from None
    values = list(content.values()) if isinstance(content, dict) else [content]
    others = sorted({type(value).__name__ for value in values if not torch.is_tensor(value)})
    if others or not values or not isinstance(content, dict):
        found = ", ".join(others) or type(content).__name__
        raise UsageError(f"{path}: holds {found}; expected a state dict, tensors under their official names")
    return content


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name once everything is there."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    with explain_write_errors(folder, "--out"):
        draft.mkdir(parents=True)
        try:
            yield draft
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
