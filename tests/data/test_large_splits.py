"""Splits that are read once: columns and token ids in the cache folder are what reading anew gives, or are not used."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bench import run_data, suites, tasks
from bench.backbones.word_pieces import PLAIN, WordPieces
from bench.config import resolve
from bench.data import example_tables, held_out, token_ids
from bench.data.columns import ExampleTable, table_arrays, visual_files
from bench.data.example_tables import read_with_tolerances
from bench.data.features import FeatureStore
from bench.data.mapped_arrays import read_verified
from bench.data.roots import MINI, locate
from bench.data.strings import Strings
from bench.tasks import Example

SUITES = ("image-text", "video-text")
SPLITS = [(task.name, split) for suite in SUITES for task in suites.get(suite).tasks for split in task.splits]


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder in which even the smallest splits are kept; the miniature data are where they were."""
    roots = {suite: locate(MINI, suite, {}) for suite in SUITES}
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(example_tables, "CACHED_BYTES", 0)
    monkeypatch.setattr(token_ids, "CACHED_TEXTS", 0)
    for suite, root in roots.items():
        link = tmp_path / root.name
        if not link.exists():
            link.symlink_to(root)
        assert locate(MINI, suite, {}).samefile(root)
    run_data.tokenized_split.cache_clear()
    yield tmp_path
    run_data.tokenized_split.cache_clear()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_a_table_has_the_examples_that_the_reader_returns(name: str, split: str, cached: Path) -> None:
    task = tasks.get(name)
    root = locate(MINI, task.suite, {})
    for tuning in (False, True) if split == "train" else (False,):
        plain = held_out.read(task, root, split) if tuning else task.read(root, split)
        for _ in range(2):  # written, then read
            table = example_tables.read(task, root, split, tuning=tuning)
            assert isinstance(table, ExampleTable)
            assert list(table) == list(plain) and table[-1] == plain[-1]
            assert table[:3] == plain[:3] and table[:] is table
            assert visual_files(table) == visual_files(plain)
    assert len(files(cached)) == (2 if split == "train" else 1)
    assert all(read_verified(path) for path in files(cached))  # else they would be made again each time
    assert read_with_tolerances(task, root, split)[1] == read_with_tolerances(task, root, split)[1]


@pytest.mark.parametrize(("suite", "backbone"), [("image-text", "mini-bart"), ("video-text", "mini-t5")])
def test_batches_are_the_same_from_any_cache(
    suite: str, backbone: str, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeatureStore, "load", lambda self, example: np.zeros((1, 1), np.float32))
    run = resolve(method="lora", backbone=backbone, suite=suite, recipe="mini")
    root = locate(MINI, suite, {})

    def batches() -> list[Any]:
        run_data.tokenized_split.cache_clear()
        sets = [run_data.read_split(run, task, "train", root) for task in run.task_list]
        return [data.batch(1, 0, 9, seed=2) for data in sets]

    fresh = batches()
    written = files(cached)
    assert {path.parent.name for path in written} == {"examples", "tokens"} and all(map(read_verified, written))
    for damage in (None, lambda content: content[: len(content) // 2], lambda content: content[:-9] + b"\1" * 9):
        for path in written:
            if damage:
                path.write_bytes(damage(path.read_bytes()))
        for one, other in zip(batches(), fresh, strict=True):
            assert one.ids == other.ids
            for field in ("input_ids", "labels", "weights"):
                assert torch.equal(getattr(one, field), getattr(other, field))
    monkeypatch.setattr(example_tables, "CACHED_BYTES", 1 << 40)
    monkeypatch.setattr(token_ids, "CACHED_TEXTS", 1 << 40)
    for one, other in zip(batches(), fresh, strict=True):
        assert torch.equal(one.input_ids, other.input_ids) and torch.equal(one.labels, other.labels)


def test_changed_annotations_are_read_anew(cached: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "nlvr").mkdir(parents=True)
    record = {"uid": "a", "identifier": "a-1-2-3", "img0": "x", "img1": "y", "label": 1, "sent": ""}
    for sent, expected in (("one", {}), (" ", {"blank questions or statements": 1}), ("two", {})):
        (root / "nlvr" / "train.json").write_text(json.dumps([record | {"sent": sent}]))
        for _ in range(2):
            examples, tolerated = read_with_tolerances(tasks.get("nlvr"), root, "train")
            assert ([example.text for example in examples], tolerated) == ([sent], expected)


def test_processes_that_read_at_once_get_the_same(cached: Path) -> None:
    task, root = tasks.get("vqa"), locate(MINI, "image-text", {})
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(list(example_tables.read(task, root, "train")))) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(result == results[0] for result in results)
    assert not list(cached.glob("*/.*"))


@pytest.mark.parametrize(
    "example",
    [
        Example("1", "t", ("a\nb",)),
        Example("1", "t", ("a",), reference=(1, 2)),
        Example("1", "t", ("a",), reference={1: 2}),
        Example("1", "t", ("a",), reference=float("nan")),
        Example("1", "t", ("a",), official={"a": {1}}),
    ],
)
def test_what_a_table_would_change_is_no_table(example: Example) -> None:
    assert table_arrays([example]) is None


@given(st.lists(st.text(st.characters(exclude_categories=()))))
def test_strings_come_back(texts: list[str]) -> None:
    strings = Strings.of(texts)
    assert list(strings) == strings.to_list() == texts


def byte_level() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return backend


def unigram() -> Backend:
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return backend


CORPUS = ["what is the man doing?", "is it red or blue, 12 o'clock", "a dog's left paw isn't there."] * 40
WORDS = st.sampled_from(
    [*" ".join(CORPUS[:3]).split(), "it's", "'s", "<s>", "[x]", "x<mask>", "é", "", "\n", "…", "42nd", "a\u00a0b"]
)


@pytest.fixture(scope="module", params=[byte_level, unigram])
def by_words(request: pytest.FixtureRequest) -> WordPieces:
    make: Callable[[], Backend] = request.param
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    pieces = WordPieces(PreTrainedTokenizerFast(tokenizer_object=make(), **names))
    assert pieces._by_words
    return pieces


@settings(deadline=None)
@given(
    texts=st.lists(st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=8)), min_size=1, max_size=8),
    limit=st.sampled_from([None, 2, 3, 6, 20]),
)
def test_encoding_by_words_gives_the_ids_of_the_tokeniser(
    by_words: WordPieces, texts: list[str], limit: int | None
) -> None:
    ids, lengths = by_words.encode_all(texts, limit)
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    for text, row in zip(texts, rows, strict=True):
        assert row.tolist() == by_words._hf(text, truncation=limit is not None, max_length=limit)["input_ids"]
    assert by_words._by_words


def test_most_questions_are_encoded_by_words() -> None:
    assert all(PLAIN.fullmatch(text) for text in CORPUS)
