"""From a name, path or configuration to a vision-language model."""

import json
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
    """Every FAMILY of the modules in this folder, by name."""
    folder = Path(__file__).parent
    modules = (import_module(f"bench.backbones.{m.name}") for m in iter_modules([str(folder)]))
    return {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}


def _presets() -> dict[str, tuple[Any, dict[str, Any]]]:
    return {name: (f, values) for f in _families().values() for name, values in f.presets.items()}


def names() -> list[str]:
    """Return the names that need no file of the user's: shipped checkpoints, then sizes without weights."""
    return [*CHECKPOINTS, *_presets()]


def family_of(config: Any) -> Any:
    """Return the BackboneFamily of an HF configuration; UsageError where there is none."""
    families = _families()
    if getattr(config, "model_type", None) not in families:
        raise UsageError(
            f"model_type {getattr(config, 'model_type', None)!r} is no backbone; known: {', '.join(families)}"
        )
    return families[config.model_type]


def shape(name: str) -> Shape:
    """Return the sizes of a backbone, its vocabulary before new tokens, without building it."""
    if name in CHECKPOINTS or Path(name).is_dir():
        file = _checkpoint(name) / "config.json"
        return Shape.of(SimpleNamespace(**json.loads(file.read_text(encoding="utf-8"))))
    if name in _presets():
        family, values = _presets()[name]
        return Shape.of(family.config(**values))
    return Shape.of(_hub(name, lambda: import_module("transformers").AutoConfig.from_pretrained(name)))


def version(name: str) -> int:
    """Return the version of a backbone's family; no file is read as long as no family has another than 1."""
    return VERSIONS.get(shape(name).family, 1) if VERSIONS else 1


def tokenizer(name: str) -> Any:
    """Return the :class:`~bench.backbones.tokenization.Tokenizer` of a shipped, local or hub backbone, with the
    official extra tokens."""
    from transformers import AutoTokenizer

    from bench.backbones.tokenization import Tokenizer

    where = {"bart-base": "facebook/bart-base", "bart-large": "facebook/bart-large"}.get(name, name)
    source = str(_checkpoint(name)) if name in CHECKPOINTS else where
    hf = _hub(name, lambda: AutoTokenizer.from_pretrained(source))
    return Tokenizer.of(hf, _families()[shape(name).family])


def build(
    name_or_config: Any, *, feat_dim: int, n_boxes: int = 36, device: Any = "cpu", seed: int = 0, dtype: Any = None
) -> Any:
    """Build a :class:`~bench.backbones.model.VLModel`.

    Args:
        name_or_config: a shipped checkpoint (``mini-bart``), a size without weights (``bart-base``), a local or hub
            checkpoint in ``save_pretrained``
            layout, or an HF configuration (whose vocabulary is then final).
        feat_dim: columns of the visual features.
        n_boxes: a grid of more visual tokens is max-pooled to floor(sqrt(n_boxes)) a side.
        device: where it is built; ``"meta"`` gives shapes without numbers.
        seed: of the rows that are new in the word embedding (quirk EMB-FROZEN: they stay as drawn).
        dtype: of all weights; float32 by default.

    Raises:
        UsageError: the name is unknown or the checkpoint cannot be read.
    """
    import torch

    from bench.backbones.model import VLModel
    from bench.backbones.visual import VisualEmbedding

    device = torch.device(device)
    with device:
        lm, family = _language_model(name_or_config, device, seed)
        config = lm.config
        words = lm.get_input_embeddings()
        projector = VisualEmbedding(feat_dim, config.d_model, words, lambda: family.norm(config))
    if device.type != "meta":
        family.init_visual(projector, config)
    model = VLModel(lm, projector, family, n_boxes)
    return model.to(dtype) if dtype is not None else model


def _language_model(wanted: Any, device: Any, seed: int) -> tuple[Any, Any]:
    """Return the HF model with the extended vocabulary, and its family."""
    import torch
    from transformers import AutoConfig

    if not isinstance(wanted, str):
        family = family_of(wanted)
        return family.model(wanted), family
    if wanted in _presets():
        family, values = _presets()[wanted]
        return family.model(family.config(**values | {"vocab_size": _extended(family, values["vocab_size"])})), family
    path = str(_checkpoint(wanted)) if wanted in CHECKPOINTS else wanted
    config = _hub(wanted, lambda: AutoConfig.from_pretrained(path))
    family = family_of(config)
    size = tokenizer(wanted).vocab_size
    if device.type == "meta":
        config.vocab_size = max(size, config.vocab_size)
        return family.model(config), family
    with torch.device("cpu"):  # from_pretrained places tensors itself
        lm = _hub(wanted, lambda: family.model.from_pretrained(path, dtype=torch.float32))
        _grow(lm, size, family.new_row_std, seed)
    return lm.to(device), family


def _extended(family: Any, vocabulary: int) -> int:
    """The official table sizes: 50265 + 200 for BART, 32200 for T5, whose 32128 rows hold 32100 tokens and 28 unused
    ones."""
    return vocabulary + 200 if family.name == "bart" else vocabulary - 28 + 100


def _grow(lm: Any, size: int, std: float, seed: int) -> None:
    """Append rows to the tied word embedding, drawn N(0, std^2) from their own generator."""
    import torch

    old = lm.get_input_embeddings().weight.shape[0]
    if size <= old:
        return
    lm.resize_token_embeddings(size, mean_resizing=False)
    rows = torch.randn(size - old, lm.config.d_model, generator=torch.Generator().manual_seed(seed)) * std
    with torch.no_grad():
        lm.get_input_embeddings().weight[old:] = rows


def _checkpoint(name: str) -> Path:
    folder = Path(CHECKPOINTS.get(name, name))
    if not (folder / "config.json").is_file():
        hint = f"; make it with `python -m bench mini pretrain {name}`" if name in CHECKPOINTS else ""
        raise UsageError(f"backbone {name!r}: no config.json in {folder}{hint}")
    return folder


def _hub(name: str, load: Any) -> Any:
    """Call a ``from_pretrained``; say plainly what was looked for where it fails.

    A name without a slash is no hub name: it is refused at once, without asking the hub.
    """
    from transformers.utils import logging

    if "/" not in name and name not in names() and not Path(name).exists():
        raise UsageError(f"{unknown('backbone', name, names())} (or a path, or a hub name like 'facebook/bart-base')")
    logging.disable_progress_bar()
    try:
        return load()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"backbone {name!r} can be read neither as a local folder nor from the hub ({str(error).splitlines()[0]}); "
            "give the path of a folder written by save_pretrained (config, weights, tokeniser)"
        ) from error
