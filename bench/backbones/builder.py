"""Building vision-language models and tokenisers from names, paths or HF configurations."""

import json
import os
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

from bench.backbones.mini import CHECKPOINTS
from bench.errors import UsageError, unknown
from methods.core.shape import Shape

#: versions of the backbone families whose meaning has changed (how tokens are joined, which tokens are added), by name;
#: they are in the ids of runs. They stand here and not in the families' files so that an id needs no torch.
VERSIONS: dict[str, int] = {}


@lru_cache
def _families() -> dict[str, Any]:
    """Return the ``FAMILY`` of every module in this folder that has one, by its name."""
    modules = (import_module(f"bench.backbones.{m.name}") for m in iter_modules([str(Path(__file__).parent)]))
    return {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}


def _presets() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the family and the values of the configuration of every preset, by its name."""
    return {name: (f, values) for f in _families().values() for name, values in f.presets.items()}


def names() -> list[str]:
    """Return the names of the backbones that come with the package: first the shipped checkpoints, then the presets,
    which are sizes without weights."""
    return [*CHECKPOINTS, *_presets()]


def family_of(config: Any) -> Any:
    """Return the :class:`~bench.backbones.family.BackboneFamily` of an HF configuration.

    Raises:
        UsageError: no family has the configuration's ``model_type``.
    """
    families = _families()
    if getattr(config, "model_type", None) not in families:
        raise UsageError(
            f"model_type {getattr(config, 'model_type', None)!r} is no backbone; known: {', '.join(families)}"
        )
    return families[config.model_type]


def shape(name: str) -> Shape:
    """Return the sizes of a backbone without building it; its vocabulary is that before the official tokens are added.

    Raises:
        UsageError: the name is unknown or the configuration cannot be read.
    """
    if name in CHECKPOINTS or os.path.isdir(name):
        file = _checkpoint_folder(name) / "config.json"
        return Shape.of(SimpleNamespace(**json.loads(file.read_text(encoding="utf-8"))))
    if name in _presets():
        family, values = _presets()[name]
        return Shape.of(family.config_class(**values))
    return Shape.of(_load_pretrained(name, lambda: import_module("transformers").AutoConfig.from_pretrained(name)))


def version(name: str) -> int:
    """Return the version of a backbone's family; no file is read as long as no family has another than 1."""
    return VERSIONS.get(shape(name).family, 1) if VERSIONS else 1


def tokenizer(name: str) -> Any:
    """Return the :class:`~bench.backbones.tokenization.Tokenizer` of a backbone, with the official tokens added.

    That of a preset is read from the HF hub or from its local cache.

    Raises:
        UsageError: the name is unknown, or the tokeniser cannot be read or has another layout than the official one.
    """
    from transformers import AutoTokenizer

    from bench.backbones.tokenization import Tokenizer

    if name in CHECKPOINTS:
        source = str(_checkpoint_folder(name))
    elif name in _presets():
        source = f"{_presets()[name][0].hub_owner}{name}"
    else:
        source = name
    hf_tokenizer = _load_pretrained(name, lambda: AutoTokenizer.from_pretrained(source))
    return Tokenizer.wrap(hf_tokenizer, _families()[shape(name).family])


def build(
    name_or_config: Any, *, feat_dim: int, n_boxes: int = 36, device: Any = "cpu", seed: int = 0, dtype: Any = None
) -> Any:
    """Build a :class:`~bench.backbones.model.VLModel`.

    Args:
        name_or_config: the name of a shipped checkpoint (``mini-bart``) or of a preset (``bart-base``, random weights),
            a path or hub name of a checkpoint in ``save_pretrained`` layout, or an HF configuration, whose vocabulary
            is taken as it is.
        feat_dim: number of columns of the visual features.
        n_boxes: the largest number of visual tokens of one image; a larger grid is max-pooled to floor(sqrt(n_boxes))
            tokens a side.
        device: where the model is built; ``"meta"`` gives shapes without memory or values.
        seed: seed of the rows that are appended to the word embedding. They are never trained by a method that leaves
            the embedding frozen (quirk EMB-FROZEN).
        dtype: type of all weights; float32 by default.

    Raises:
        UsageError: the name is unknown or the checkpoint cannot be read.
    """
    import torch

    from bench.backbones.model import VLModel
    from bench.backbones.visual import VisualEmbedding

    device = torch.device(device)
    with device:
        lm, family = _build_language_model(name_or_config, device, seed)
        config = lm.config
        word_embedding = lm.get_input_embeddings()
        projector = VisualEmbedding(feat_dim, config.d_model, word_embedding, lambda: family.build_norm(config))
    if device.type != "meta":
        family.init_projector(projector, config)
    model = VLModel(lm, projector, family, n_boxes)
    return model.to(dtype) if dtype is not None else model


def _build_language_model(name_or_config: Any, device: Any, seed: int) -> tuple[Any, Any]:
    """Return the HF model, its word embedding extended by the official tokens, and its family."""
    import torch
    from transformers import AutoConfig

    if not isinstance(name_or_config, str):
        family = family_of(name_or_config)
        return family.model_class(name_or_config), family
    name = name_or_config
    if name in _presets():
        family, values = _presets()[name]
        vocabulary = family.extended_vocabulary(values["vocab_size"])
        return family.model_class(family.config_class(**values | {"vocab_size": vocabulary})), family
    path = str(_checkpoint_folder(name)) if name in CHECKPOINTS else name
    config = _load_pretrained(name, lambda: AutoConfig.from_pretrained(path))
    family = family_of(config)
    vocabulary = tokenizer(name).vocab_size
    if device.type == "meta":
        config.vocab_size = max(vocabulary, config.vocab_size)
        return family.model_class(config), family
    with torch.device("cpu"):  # from_pretrained places tensors itself
        lm = _load_pretrained(name, lambda: family.model_class.from_pretrained(path, dtype=torch.float32))
        _append_embedding_rows(lm, vocabulary, family.new_row_std, seed)
    return lm.to(device), family


def _append_embedding_rows(lm: Any, rows: int, std: float, seed: int) -> None:
    """Extend the tied word embedding to ``rows`` rows, the new ones from N(0, std²) and a generator of their own.

    A table that is large enough stays as it is.
    """
    import torch

    existing = lm.get_input_embeddings().weight.shape[0]
    if rows <= existing:
        return
    lm.resize_token_embeddings(rows, mean_resizing=False)
    new = torch.randn(rows - existing, lm.config.d_model, generator=torch.Generator().manual_seed(seed)) * std
    with torch.no_grad():
        lm.get_input_embeddings().weight[existing:] = new


def _checkpoint_folder(name: str) -> Path:
    """Return the folder of a shipped or local checkpoint; UsageError where it has no configuration."""
    folder = Path(CHECKPOINTS.get(name, name))
    if not (folder / "config.json").is_file():
        hint = f"; make it with `python -m bench mini pretrain {name}`" if name in CHECKPOINTS else ""
        raise UsageError(f"backbone {name!r}: no config.json in {folder}{hint}")
    return folder


def _load_pretrained(name: str, load: Any) -> Any:
    """Return ``load()``, which calls a ``from_pretrained`` of transformers for the backbone ``name``.

    A name without a slash is no hub name: an unknown one is refused at once, without asking the hub.

    Raises:
        UsageError: the name is unknown or ``load`` fails; the message says what was looked for.
    """
    from transformers.utils import logging

    if "/" not in name and name not in names() and not os.path.exists(name):
        raise UsageError(f"{unknown('backbone', name, names())} (or a path, or a hub name like 'facebook/bart-base')")
    logging.disable_progress_bar()
    try:
        return load()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"backbone {name!r} can be read neither as a local folder nor from the hub ({str(error).splitlines()[0]}); "
            "give the path of a folder written by save_pretrained (config, weights, tokeniser)"
        ) from error
