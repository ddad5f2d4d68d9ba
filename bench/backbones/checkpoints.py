"""Reading checkpoints: what a folder or the hub gives must be a whole pretrained backbone, or an error says what is
missing.

transformers is forgiving where a benchmark must not be: a folder without tokeniser files gives a tokeniser of five
tokens, weights under other names leave the model at random values, and a hub name without network is tried for half a
minute. Each of these is one error here.
"""

import os
import socket
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bench.backbones.family import BackboneFamily
from bench.backbones.mini import CHECKPOINTS
from bench.backbones.tokenization import Tokenizer
from bench.errors import UsageError
from methods.core.errors import summarise_names

T = TypeVar("T")
HUB_SECONDS = 3.0  # to reach the hub at all
SPARE_ROWS = 128  # rows of a word embedding that may belong to no token: tables are padded to round numbers
SURVIVING = 0.5  # of a sentence, at least
SAMPLE = "is there a red dog in the picture?"


def checkpoint_folder(name: str) -> Path:
    """Return the folder of a shipped or local checkpoint; UsageError where it has no configuration."""
    folder = Path(CHECKPOINTS.get(name, name))
    if not (folder / "config.json").is_file():
        hint = f"; make it with `python -m bench mini pretrain {name}`" if name in CHECKPOINTS else ""
        raise UsageError(f"backbone {name!r}: no config.json in {folder}{hint}")
    return folder


def load_pretrained(name: str, load: Callable[[str, bool], T]) -> T:
    """Return ``load(source, local_only)``, which calls a ``from_pretrained`` of transformers for the backbone ``name``.

    A folder and what the hub's local cache holds are read without any network; only a name that is neither is asked of
    the hub, and refused at once where there is none.

    Raises:
        UsageError: the checkpoint cannot be read; the message says what was looked for and how to get it.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    is_folder = name in CHECKPOINTS or os.path.exists(name)
    source = str(checkpoint_folder(name)) if is_folder else name
    try:
        return load(source, True)
    except Exception as error:
        if not _is_about_files(error):
            raise
        if is_folder:
            raise UsageError(
                f"backbone {name!r}: {source} cannot be read ({_first_line(error)}){_hint(error)}"
            ) from error
    if name.startswith(("/", ".", "~")):
        raise UsageError(f"backbone {name!r}: no such folder")
    _require_network(name)
    try:
        return load(source, False)
    except Exception as error:
        if not _is_about_files(error):
            raise
        raise UsageError(
            f"backbone {name!r} can be read neither as a local folder nor from the hub ({_first_line(error)})"
            f"{_hint(error) or '; give the path of a folder written by save_pretrained (config, weights, tokeniser)'}"
        ) from error


def _is_about_files(error: Exception) -> bool:
    """Return whether an error of a ``from_pretrained`` is that of a parser, each of which has errors of its own.

    Others say that there is too little memory, or that weights do not fit.
    """
    return isinstance(error, RecursionError) or not isinstance(error, RuntimeError | MemoryError)


def _require_network(name: str) -> None:
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        socket.create_connection((host, urlsplit(constants.ENDPOINT).port or 443), timeout=HUB_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"backbone {name!r} is neither a local folder nor in the local cache of the hub, and {host} cannot be "
            f"reached ({error}); fetch it where there is network with `hf download {name} --local-dir FOLDER`, then "
            "use --backbone FOLDER"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else ""
    return f"{type(error).__name__} {line}".strip() if isinstance(error, LookupError) or not line else line


def _hint(error: BaseException) -> str:
    """Say which package a tokeniser file needs; transformers names another one for a sentencepiece model."""
    text = str(error).lower()
    if "tiktoken" in text or "protobuf" in text or "sentencepiece" in text:
        return "; a sentencepiece model (spiece.model) needs the packages sentencepiece and protobuf"
    return ""


def read_tokenizer(name: str, family: BackboneFamily, config: Any) -> Tokenizer:
    """Return the tokeniser of a checkpoint with the official tokens added, checked against the model's configuration.

    Args:
        name: the backbone's name, folder or hub name.
        family: its family.
        config: its configuration, whose ``vocab_size`` is the number of rows of the word embedding.

    Raises:
        UsageError: tokeniser files are missing, its tokens or special tokens do not belong to the word embedding, or a
            known sentence does not survive encoding and decoding.
    """
    from transformers import AutoTokenizer

    if name in CHECKPOINTS or os.path.isdir(name):
        folder = checkpoint_folder(name)
        if not any(all((folder / file).is_file() for file in files) for files in family.tokenizer_files):
            choices = ", or ".join(" and ".join(files) for files in family.tokenizer_files)
            raise UsageError(f"backbone {name!r}: no tokeniser in {folder}; it needs {choices}")
    hf_tokenizer = load_pretrained(
        name, lambda source, local: AutoTokenizer.from_pretrained(source, local_files_only=local)
    )
    _check_vocabulary(name, hf_tokenizer, config)
    tokenizer = Tokenizer.wrap(hf_tokenizer, family)
    decoded = tokenizer.decode(tokenizer.encode_bare(SAMPLE))
    # A small tokeniser of one's own may lack a letter; one that loses most of a sentence belongs to nothing.
    if SequenceMatcher(None, SAMPLE, decoded).ratio() < SURVIVING:
        raise UsageError(
            f"backbone {name!r}: its tokeniser turns {SAMPLE!r} into {decoded!r}; it is not the one of this model, or "
            "not a tokeniser of English text"
        )
    return tokenizer


def _check_vocabulary(name: str, hf_tokenizer: Any, config: Any) -> None:
    tokens, rows = len(hf_tokenizer), config.vocab_size
    # bart-large-cnn and what was distilled from it have no row for <mask>, their last token, which no text contains.
    beyond = hf_tokenizer.convert_ids_to_tokens(list(range(rows, tokens))) if tokens - rows <= 1 else ["many"]
    if tokens <= rows - SPARE_ROWS or not set(beyond) <= {hf_tokenizer.mask_token}:
        raise UsageError(
            f"backbone {name!r}: its tokeniser has {tokens:,} tokens, its word embedding {rows:,} rows (config.json, "
            "vocab_size); these are of different models"
        )
    for kind in ("pad_token_id", "eos_token_id", "bos_token_id"):
        ours, theirs = getattr(hf_tokenizer, kind, None), getattr(config, kind, None)
        if theirs is not None and ours is not None and ours != theirs:
            raise UsageError(f"backbone {name!r}: {kind} is {ours} in its tokeniser and {theirs} in its config.json")
    for kind in ("pad_token_id", "eos_token_id"):
        if getattr(hf_tokenizer, kind, None) is None:
            raise UsageError(f"backbone {name!r}: its tokeniser has no {kind.removesuffix('_id').replace('_', ' ')}")


def read_weights(name: str, family: BackboneFamily) -> Any:
    """Return the language model of a checkpoint in float32 on the CPU, with every weight read from it.

    Raises:
        UsageError: weights are missing, left over, of another shape, NaN or infinite; the message names them. What a
            family's published checkpoints leave out (``family.optional_weights``) may be missing.
    """
    import torch
    from transformers.utils import logging

    def load(source: str, local_only: bool) -> tuple[Any, dict[str, Any]]:
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # what is missing is said below, in one line
        try:
            return family.model_class.from_pretrained(
                source, dtype=torch.float32, local_files_only=local_only, output_loading_info=True
            )
        finally:
            logging.set_verbosity(verbosity)

    try:
        lm, report = load_pretrained(name, load)
    except RuntimeError as error:  # how transformers reports weights of another shape
        raise UsageError(f"backbone {name!r}: its weights do not fit its config.json ({_first_line(error)})") from error
    missing = [key for key in report["missing_keys"] if not key.endswith(family.optional_weights)]
    faults = [
        *summarise_names("missing", sorted(missing)),
        *summarise_names("left over", sorted(report["unexpected_keys"])),
        *summarise_names("of another shape", sorted(str(key) for key in report["mismatched_keys"])),
        *summarise_names("not finite", [key for key, weight in lm.named_parameters() if not weight.isfinite().all()]),
    ]
    if faults:
        raise UsageError(
            f"backbone {name!r}: its weights are not those of a {family.model_class.__name__}: {'; '.join(faults)}; "
            "save the model again with save_pretrained, without wrappers around it"
        )
    return lm
