"""Checkpoints that are not whole are refused with what is missing, and nothing asks a network that is not needed."""

import json
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig

from bench import backbones
from bench.backbones.builder import _presets
from bench.backbones.mini import CHECKPOINTS
from bench.cli import main
from bench.config import resolve
from bench.errors import UsageError
from bench.report.table import title_of

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
families = pytest.mark.parametrize("name", list(CHECKPOINTS))


@pytest.fixture
def checkpoint(tmp_path: Path, name: str) -> Path:
    """A copy of a shipped checkpoint, to be broken."""
    return Path(shutil.copytree(CHECKPOINTS[name], tmp_path / "checkpoint"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any look-up of a host or connection fails as it does on a machine without network."""

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    monkeypatch.setattr("socket.socket.connect", unreachable)


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key, value in fields.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder: Path, change: Any) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def build(folder: Path) -> Any:
    return backbones.build(str(folder), feat_dim=4)


@families
def test_a_folder_without_tokeniser_files_is_refused(checkpoint: Path) -> None:
    """transformers would make a tokeniser of a handful of tokens, under which every text is empty."""
    for file in TOKENIZER_FILES:
        (checkpoint / file).unlink(missing_ok=True)
    with pytest.raises(UsageError, match=r"no tokeniser in .*checkpoint; it needs tokenizer.json, or "):
        backbones.tokenizer(str(checkpoint))


@families
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 50265}, r"tokeniser has [\d,]+ tokens, its word embedding 50,265 rows"),
        ({"pad_token_id": 7}, r"pad_token_id is \d in its tokeniser and 7 in its config.json"),
        ({"eos_token_id": 9}, r"eos_token_id is \d in its tokeniser and 9 in its config.json"),
    ],
)
def test_a_tokeniser_of_another_model_is_refused(checkpoint: Path, fields: dict[str, int], message: str) -> None:
    change_config(checkpoint, **fields)
    with pytest.raises(UsageError, match=message):
        backbones.tokenizer(str(checkpoint))


@families
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {f"wrapper.{key}": value for key, value in w.items()}, r"\d+ missing: .*\d+ left over: wrapper\."),
        (lambda w: {k: v for k, v in w.items() if ".0." not in k}, r"\d+ missing: "),
        (lambda w: w | {"head.weight": torch.zeros(3)}, r"1 left over: head.weight"),
        (lambda w: {k: v / 0 for k, v in w.items()}, r"\d+ not finite: "),
    ],
    ids=["prefix", "missing", "left over", "not finite"],
)
def test_weights_that_do_not_match_are_named(checkpoint: Path, change: Any, message: str) -> None:
    change_weights(checkpoint, change)
    with pytest.raises(UsageError, match=message):
        build(checkpoint)


@families
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"[" * 100_000, b"\xff"], ids=["empty", "{}", "[]", "nested", "\xff"]
)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_none_of_its_kind_is_refused(checkpoint: Path, file: str, content: bytes) -> None:
    (checkpoint / file).write_bytes(content)
    try:
        backbones.tokenizer(str(checkpoint))
        build(checkpoint)
    except UsageError as fault:
        assert str(checkpoint) in str(fault)
    else:
        assert (file, content) == ("tokenizer_config.json", b"{}")  # tokenizer.json says the same


def test_a_folder_that_is_not_there_is_no_name_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        build(tmp_path / "bart-base")


@families
def test_weights_of_another_shape_are_refused(checkpoint: Path) -> None:
    change_weights(checkpoint, lambda w: {k: v if v.dim() < 2 else v[:, :-8].contiguous() for k, v in w.items()})
    with pytest.raises(UsageError, match=r"do not fit its config\.json|of another shape"):
        build(checkpoint)


@pytest.mark.parametrize("name", ["mini-t5"])
def test_a_t5_configuration_without_decoder_layers_is_that_of_the_hub(checkpoint: Path) -> None:
    """The published files of T5 have no num_decoder_layers: the decoder is as deep as the encoder."""
    whole = backbones.shape(str(checkpoint))
    change_config(checkpoint, num_decoder_layers=None, num_layers=3)
    assert backbones.shape(str(checkpoint)).decoder_layers == 3
    assert whole.decoder_layers == 2


def test_the_shipped_backbones_ask_no_network(no_network: None) -> None:
    for name in CHECKPOINTS:
        backbones.tokenizer(name)
        backbones.build(name, feat_dim=4)


def test_a_hub_name_without_network_fails_at_once_with_the_command_that_fetches_it(no_network: None) -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"cannot be reached .*`hf download nobody/bart-base-xyz --local-dir FOLDER`"):
        backbones.build("nobody/bart-base-xyz", feat_dim=4)
    assert time.monotonic() - begun < 20  # importing transformers, but no retries


def test_sizes_of_published_checkpoints_need_no_network(no_network: None) -> None:
    assert backbones.shape("facebook/bart-base") == backbones.shape("bart-base")
    model = backbones.build("facebook/bart-base", feat_dim=4, device="meta")
    assert model.lm.config.vocab_size == 50465


def test_a_sentencepiece_model_alone_is_a_t5_tokeniser(tmp_path: Path) -> None:
    """As some published T5 folders have it: spiece.model and no tokenizer.json."""
    import sentencepiece

    text = tmp_path / "text.txt"
    text.write_text("\n".join(["is there a red dog in the picture?", "what color is the left cube?"] * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    size = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).get_piece_size()
    shutil.copy(CHECKPOINTS["mini-t5"] / "config.json", tmp_path / "config.json")
    change_config(tmp_path, vocab_size=size + 100)
    tokenizer = backbones.tokenizer(str(tmp_path))
    assert tokenizer.decode(tokenizer.encode("is there a red dog in the picture?", None)) == (
        "is there a red dog in the picture?"
    )


def test_a_sweep_asks_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(self: Any, address: Any) -> None:
        asked.append(address)
        raise OSError("no network")

    def look_up(*words: Any, **further: Any) -> None:
        asked.append(words)
        raise socket.gaierror(-2, "no network")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("socket.getaddrinfo", look_up)
    folders = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports"), "--quiet"]
    few = ["--tasks", "gqa", "--set", "steps=1", "--set", "limit=4", "--set", "beams=1"]
    assert main(["sweep", "--methods", "ia3", "--suites", "image-text", *few, *folders]) == 0
    assert asked == []


def test_random_weights_have_a_name_that_says_so() -> None:
    run = resolve("random:bart-base", "lora", "image-text")
    assert run.backbone == "random:bart-base" and "random_bart-base" in run.id and run.recipe.name == "paper"
    assert run.id != resolve("facebook/bart-base", "lora", "image-text").id
    assert backbones.shape("random:bart-base") == backbones.shape("bart-base")
    model = backbones.build("random:bart-base", feat_dim=4, device="meta")
    assert model.lm.config.vocab_size == 50465
    assert [backbones.has_random_weights(n) for n in (run.backbone, "t5-base", "facebook/bart-base")] == [1, 1, 0]
    entry = SimpleNamespace(backbone=run.backbone, suite="image-text", synthetic=False)
    assert title_of([entry]) == "random:bart-base, image-text (random weights)"  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["mini-bart"])
def test_a_folder_has_a_published_name_by_its_name_or_origin_and_its_sizes(checkpoint: Path) -> None:
    assert backbones.published_name("facebook/bart-base") == "bart-base"
    assert backbones.published_name("/nowhere/bart-base/") == "bart-base"  # of a record from elsewhere
    other = checkpoint.rename(checkpoint.parent / "bart-base")
    assert backbones.published_name(str(other)) == str(other)  # has other sizes
    base = BartConfig(**_presets()["bart-base"][1])
    (other / "config.json").write_text(json.dumps(base.to_dict()))
    assert backbones.published_name(f"{other}/") == "bart-base"
    mine = other.rename(checkpoint.parent / "mine")
    assert backbones.published_name(str(mine)) == str(mine)
    change_config(mine, _name_or_path="facebook/bart-base")
    assert backbones.published_name(str(mine)) == "bart-base"


def test_a_size_without_weights_is_no_backbone_to_train() -> None:
    with pytest.raises(UsageError, match=r"size without weights.*--backbone facebook/bart-base"):
        backbones.require_checkpoint("bart-base")
    backbones.require_checkpoint("mini-bart")
