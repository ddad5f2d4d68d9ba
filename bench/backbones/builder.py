"""Building vision-language models and tokenisers from names, paths or HF configurations."""

import json
import os
import re
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

from bench.backbones.mini import CHECKPOINTS
from bench.errors import UsageError, unknown
from bench.files import parse_json
from methods.core.shape import Shape

#: versions of the backbone families whose meaning has changed (how tokens are joined, which tokens are added), by name;
#: they are in the ids of runs. They stand here and not in the families' files so that an id needs no torch.
VERSIONS: dict[str, int] = {}
#: what stands before a preset's name where random weights are wanted; runs, tables and records have it in the name
RANDOM = "random:"


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
    if name in CHECKPOINTS:  # written by us, with every field: no need to import transformers for it
        file = CHECKPOINTS[name] / "config.json"
        return Shape.of(SimpleNamespace(**json.loads(file.read_text(encoding="utf-8"))))
    preset = _published_preset(_size(name))
    if preset in _presets():
        family, values = _presets()[preset]
        return Shape.of(family.config_class(**values))
    return Shape.of(_read_config(name))


def _size(name: str) -> str:
    """Return the preset of a backbone of random weights; other names as they are.

    Raises:
        UsageError: there is no such preset.
    """
    if not name.startswith(RANDOM):
        return name
    size = name.removeprefix(RANDOM)
    if size not in _presets():
        raise unknown("size for random weights", size, _presets())
    return size


def has_random_weights(name: str) -> bool:
    """Return whether a backbone's weights are drawn at random: a preset, or ``random:`` and a preset."""
    return name.startswith(RANDOM) or (name not in CHECKPOINTS and "/" not in name and name in _presets())


def _published_preset(name: str) -> str:
    """Return the preset that a hub name is the published checkpoint of, so that planning needs no network; other names
    as they are. A folder of that name is not the published checkpoint."""
    owner, _, last = name.rpartition("/")
    if owner and last in _presets() and f"{owner}/" == _presets()[last][0].hub_owner and not os.path.exists(name):
        return last
    return name


def _read_config(name: str) -> Any:
    """Return the HF configuration of a checkpoint by its folder or hub name; UsageError for an unknown name."""
    from transformers import AutoConfig

    from bench.backbones.checkpoints import load_pretrained

    if "/" not in name and name not in names() and not os.path.exists(name):
        raise UsageError(f"{unknown('backbone', name, names())} (or a path, or a hub name like 'facebook/bart-base')")
    config = load_pretrained(name, lambda source, local: AutoConfig.from_pretrained(source, local_files_only=local))
    try:
        fault = family_of(config).fault(config)
    except UsageError as error:
        fault = str(error)
    if fault:
        raise UsageError(f"backbone {name!r}: {fault}")
    return config


def version(name: str) -> int:
    """Return the version of a backbone's family; no file is read as long as no family has another than 1."""
    return VERSIONS.get(shape(name).family, 1) if VERSIONS else 1


def folders(name: str) -> tuple[Path | None, Path | None]:
    """Return the folders on this machine from which the weights and the tokeniser of a backbone are read.

    None stands for weights that are drawn at random, and for files of the hub that are not in its local cache.
    """
    if name in CHECKPOINTS or os.path.isdir(name):
        folder = Path(CHECKPOINTS.get(name, name))
        return folder, folder
    if has_random_weights(name):
        return None, _cached_snapshot(_hub_name(_size(name)))
    return _cached_snapshot(name), _cached_snapshot(name)


def _hub_name(preset: str) -> str:
    return f"{_presets()[preset][0].hub_owner}{preset}"


def _cached_snapshot(hub_name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(hub_name, "config.json")
    except ValueError:  # no possible name of the hub
        return None
    return Path(file).parent if isinstance(file, str) else None


def tokenizer(name: str) -> Any:
    """Return the :class:`~bench.backbones.tokenization.Tokenizer` of a backbone, with the official tokens added.

    That of a preset is read from the HF hub or from its local cache.

    Raises:
        UsageError: the name is unknown, or the tokeniser cannot be read or has another layout than the official one.
    """
    from bench.backbones.checkpoints import read_tokenizer

    if has_random_weights(name):
        name = _hub_name(_size(name))
    config = _read_config(name)
    tokenizer = read_tokenizer(name, family_of(config), config)
    return replace(tokenizer, positions=getattr(config, "max_position_embeddings", None))  # None: relative, as in T5


def build(
    name_or_config: Any, *, feat_dim: int, n_boxes: int = 36, device: Any = "cpu", seed: int = 0, dtype: Any = None
) -> Any:
    """Build a :class:`~bench.backbones.model.VLModel`.

    Args:
        name_or_config: the name of a shipped checkpoint (``mini-bart``) or of a preset (``bart-base``, random weights;
            runs name it ``random:bart-base``), a path or hub name of a checkpoint in ``save_pretrained`` layout, or an
            HF configuration, whose vocabulary is taken as it is.
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

    from bench.backbones.checkpoints import read_weights

    if not isinstance(name_or_config, str):
        family = family_of(name_or_config)
        return _without_weights(family, name_or_config), family
    name = _size(name_or_config)
    if device.type == "meta":
        name = _published_preset(name)  # sizes of published checkpoints are known without reading them
    if name in _presets():
        family, values = _presets()[name]
        vocabulary = family.extended_vocabulary(values["vocab_size"])
        return _without_weights(family, family.config_class(**values | {"vocab_size": vocabulary})), family
    config = _read_config(name)
    family = family_of(config)
    vocabulary = tokenizer(name).vocab_size
    if device.type == "meta":
        config.vocab_size = max(vocabulary, config.vocab_size)
        return _without_weights(family, config), family
    with torch.device("cpu"):  # from_pretrained places tensors itself
        lm = read_weights(name, family)
        _append_embedding_rows(lm, vocabulary, family.new_row_std, seed)
    return lm.to(device), family


def _without_weights(family: Any, config: Any) -> Any:
    """Return a model with its initial values, its output layer tied to the word embedding or not as its family says."""
    from torch import nn

    lm = family.model_class(config)
    if family.has_own_head(config):
        head = lm.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone())
    return lm


def _append_embedding_rows(lm: Any, rows: int, std: float, seed: int) -> None:
    """Extend the word embedding to ``rows`` rows, the new ones from N(0, std²) and a generator of their own.

    A table that is large enough stays as it is. An output layer of its own gets the mean of its rows for every new
    token, which is never the likeliest.
    """
    import torch

    existing = lm.get_input_embeddings().weight.shape[0]
    if rows <= existing:
        return
    head = lm.get_output_embeddings().weight
    is_tied = head is lm.get_input_embeddings().weight
    lm.config.tie_word_embeddings = is_tied  # else transformers ties what the files of T5 1.1 keep apart
    lm.resize_token_embeddings(rows, mean_resizing=False)
    if not is_tied:
        with torch.no_grad():
            lm.get_output_embeddings().weight[existing:] = head.mean(dim=0)
    new = torch.randn(rows - existing, lm.config.d_model, generator=torch.Generator().manual_seed(seed)) * std
    with torch.no_grad():
        lm.get_input_embeddings().weight[existing:] = new


def canonical_name(name: str) -> str:
    """Return the one spelling of a backbone that is named by a path: absolute, with links followed.

    A snapshot folder of the hub's cache that is what the hub name stands for becomes the hub name. Names stay.

    >>> canonical_name("mini-bart")
    'mini-bart'
    """
    # What is no folder is a name, as it is: asking for the names of presets would import torch.
    if not os.path.isdir(os.path.expanduser(name)) or name in names():
        return name
    path = os.path.realpath(os.path.expanduser(name))
    if match := re.search(r"/models--([^/]+)--([^/]+)/snapshots/[^/]+$", path):
        hub_name = f"{match[1]}/{match[2]}"
        folder = folders(hub_name)[0]
        if folder is not None and os.path.realpath(folder) == os.path.realpath(path):
            return hub_name
    return path


def published_name(name: str) -> str:
    """Return the preset that a checkpoint is the pretrained one of, for comparisons with published numbers.

    That is the last part of a hub name. A folder is called after its last part or after what its configuration says it
    was saved from, and its sizes must be those of the preset; its name stays as it is where they are not.
    """
    if not os.path.isdir(name):
        return name.rstrip("/").rpartition("/")[2]
    from methods.core.errors import MethodError

    try:
        sizes = replace(shape(name), vocab=0)
        origin = str(parse_json((Path(name) / "config.json").read_bytes()).get("_name_or_path", ""))
    except (UsageError, MethodError, OSError, ValueError):
        return name
    for candidate in (os.path.basename(name.rstrip("/")), origin.rpartition("/")[2]):
        if candidate in _presets() and replace(shape(candidate), vocab=0) == sizes:
            return candidate
    return name


def require_weights(name: str) -> None:
    """Check that a backbone's name is not that of a size without weights; no file is read.

    Raises:
        UsageError: the name is that of a preset.
    """
    if name not in CHECKPOINTS and "/" not in name and name in _presets():
        raise UsageError(
            f"backbone {name!r} is a size without weights, for parameter counts and tests; name the pretrained "
            f"checkpoint, --backbone {_hub_name(name)} or the folder of one; random weights, which every table names "
            f"and none compares with published numbers, are --backbone {RANDOM}{name}"
        )


@lru_cache
def require_checkpoint(name: str) -> None:
    """Check that a backbone can be trained: its configuration, tokeniser and all weights are read once.

    Raises:
        UsageError: the name is that of a preset, which has no weights, or the checkpoint is not whole.
    """
    require_weights(name)
    if name not in CHECKPOINTS:
        import torch

        tokenizer(name)
        if not name.startswith(RANDOM):
            _build_language_model(name, torch.device("cpu"), seed=0)
