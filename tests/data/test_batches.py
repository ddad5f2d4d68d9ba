"""Batches: the official order, what is drawn, what is padded."""

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from bench import suites, tasks
from bench.data import batches
from bench.data.batches import TokenizedSplit, schedule
from bench.data.features import FeatureStore
from bench.errors import UsageError
from bench.tasks import Example
from bench.tasks.tolerance import Tolerance

PAD = 1
CUTS = ("official", "keep-question")


class Letters:
    """A tokeniser of letters: 0, one id per letter, 2."""

    pad_id = PAD
    positions: int | None = None

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    digest = None

    def encode(self, text: str, limit: int | None) -> list[int]:
        return [0, *[ord(letter) for letter in text][: limit and limit - 2], 2]

    def encode_all(self, texts: Sequence[str], limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        self.asked.update(texts)
        rows = [self.encode(text, limit) for text in texts]
        return np.array([i for row in rows for i in row], np.int32), np.array([len(row) for row in rows])


class Ones:
    """Features that say which example they belong to."""

    def load(self, example: Example) -> np.ndarray:
        return np.full((2, 3), float(example.visual[0]), np.float32)


VQA = tasks.get("vqa")


def prepared(*examples: Example, task: tasks.Task = VQA, prefix: bool = False) -> TokenizedSplit:
    return TokenizedSplit(task, examples, Letters(), Ones(), prefix=prefix)


def asking(words: int, rest: str, task: tasks.Task, truncation: str = "keep-question", **limits: int) -> str:
    """What is left of a source with a transcript of so many words of one letter, and what was counted."""
    spoken = " ".join("abcdefghij"[i % 10] for i in range(words))
    example = Example("1", f"<{spoken}>{rest}", ("1",), transcript=(1, 1 + len(spoken)))
    text = Letters()
    text.positions = limits.get("positions")
    task = dataclasses.replace(task, source_limit=limits.get("limit"))
    split = TokenizedSplit(task, [example], text, Ones(), prefix=True, truncation=truncation)
    counted = split.tolerated[Tolerance.BEYOND_POSITIONS.value]
    return "".join(chr(i) for i in split.collate([0]).input_ids[0] if i > 2) + "!" * counted


@pytest.mark.parametrize("limits", [{"limit": 26}, {"positions": 26}, {"limit": 99, "positions": 26}])
def test_the_transcript_is_cut_and_the_question_kept(limits: dict[str, int]) -> None:
    task, marks = tasks.get("tvqa"), "!" * ("positions" in limits)
    assert asking(99, " [Q] why?", task, **limits) == "<a b c> [Q] why? tvqa: " + marks
    assert asking(99, " [Q] why?", task, "official", **limits) == "<a b c d e f g h i j a b"[:24] + marks
    assert asking(2, " [Q] why?", task, **limits) == "<a b> [Q] why? tvqa: "
    assert asking(0, " [Q] why?", task, **limits) == "<> [Q] why? tvqa: "
    assert asking(9, " [Q] why and because?", task, **limits) == "<> [Q] why and because? "[:24] + marks


def test_questions_without_a_transcript_are_cut_by_the_positions_only() -> None:
    question = "what is left of the right man?"
    kept = [TokenizedSplit(VQA, [asked(1, text=question)], Letters(), Ones(), prefix=True, truncation=t) for t in CUTS]
    assert [data.length(0) for data in kept] == [20, len(f"vqa: {question}") + 2]


def asked(number: int, answers: dict[str, float] | None = None, text: str = "q") -> Example:
    given = {"yes": 1.0} if answers is None else answers
    return Example(str(number), text, (str(number),), tuple(given.items()))


def words(labels: torch.Tensor) -> list[str]:
    return ["".join(chr(i) for i in row if i > 2) for row in labels.tolist()]


@settings(deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from(["vqa", "gqa", "nlvr", "caption"]), st.integers(0, 30), min_size=1),
    epoch=st.integers(0, 50),
)
def test_the_schedule_is_the_shuffled_list_consumed_from_its_end(sizes: dict[str, int], epoch: int) -> None:
    listed = [name for name in sizes for _ in range(sizes[name])]
    random.Random(epoch).shuffle(listed)
    popped = [listed.pop() for _ in range(len(listed))]
    assert schedule(epoch, sizes) == popped


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize(("number", "size"), [(10, 3), (12, 4), (2, 5)])
def test_examples_come_in_the_order_of_the_official_loader(epoch: int, number: int, size: int) -> None:
    data = prepared(*(asked(i) for i in range(number)))
    sampler = DistributedSampler(range(number), num_replicas=1, rank=0, shuffle=True)
    sampler.set_epoch(epoch)
    official = [batch.tolist() for batch in DataLoader(range(number), batch_size=size, sampler=sampler)]
    for seed in (1, 2):
        assert [data.batch(epoch, i, size, seed).ids for i in range(len(official))] == official


@pytest.mark.parametrize(
    ("task", "positions", "length", "cut"),
    [("nlvr", 8, 8, 1), ("nlvr", None, 42, 0), ("vqa", 8, 8, 1), ("vqa", 99, 20, 0)],
)
def test_texts_beyond_the_positions_of_a_model_are_cut_and_counted(
    task: str, positions: int | None, length: int, cut: int
) -> None:
    text = Letters()
    text.positions = positions
    examples = [asked(0, text="q" * 40), asked(1, text="q")]
    data = TokenizedSplit(tasks.get(task), examples, text, Ones(), prefix=False, tolerated={"odd": 2})
    assert [data.length(0), data.length(1)] == [length, 3]
    assert data.tolerated == {"odd": 2} | ({Tolerance.BEYOND_POSITIONS: 1} if cut else {})


def test_features_belong_to_their_examples() -> None:
    data = prepared(*(asked(i) for i in range(9)))
    batch = data.batch(0, 1, 4, seed=0)
    assert batch.vis_feats.shape == (4, 2, 3)
    assert batch.vis_feats.dtype == torch.float32
    assert batch.vis_feats[:, 0, 0].tolist() == batch.ids


def test_features_too_large_to_keep_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = prepared(*(asked(i) for i in range(9))).batch(0, 0, 4, seed=0)
    monkeypatch.setattr(batches, "PREFETCH_BYTES", 0)
    loaded = prepared(*(asked(i) for i in range(9))).batch(0, 0, 4, seed=0)
    assert torch.equal(kept.vis_feats, loaded.vis_feats)


def test_sources_are_padded_with_the_pad_id_and_labels_with_minus_100() -> None:
    data = prepared(asked(0, {"no": 1.0}, "ab"), asked(1, {"maybe": 1.0}, "abcd"))
    batch = data.collate([0, 1])
    assert batch.input_ids.tolist() == [[0, 97, 98, 2, PAD, PAD], [0, 97, 98, 99, 100, 2]]
    assert batch.labels.tolist()[0] == [0, 110, 111, 2, -100, -100, -100]
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
    assert [data.length(i) for i in (0, 1)] == [4, 6]


def test_limits_and_prompts_are_the_tasks() -> None:
    long = asked(0, {"x" * 50: 1.0}, "q" * 50)
    batch = prepared(long, prefix=True).collate([0])
    assert batch.input_ids.shape == (1, 20)
    assert words(batch.input_ids)[0].startswith("vqa: qqq")
    assert batch.labels.shape == (1, 10)
    free = prepared(long, task=tasks.get("nlvr")).collate([0])
    assert free.input_ids.shape == free.labels.shape == (1, 52)


def test_equal_sources_are_encoded_once() -> None:
    text = Letters()
    TokenizedSplit(VQA, [asked(i, text="same") for i in range(50)], text, Ones(), prefix=True)
    assert text.asked["vqa: same"] == 1


def test_answers_are_drawn_in_proportion_to_their_scores() -> None:
    data = prepared(*(asked(i, {"a": 0.3, "b": 0.9, "c": 0.0}) for i in range(3000)))
    batch = data.batch(0, 0, 3000, seed=1)
    drawn = Counter(words(batch.labels))
    assert set(drawn) == {"a", "b"}
    assert abs(drawn["b"] / 3000 - 0.75) < 0.03  # three standard deviations are 0.024
    weights = {word: set() for word in drawn}
    for word, weight in zip(words(batch.labels), batch.weights.tolist(), strict=True):
        weights[word].add(round(weight, 6))
    assert weights == {"a": {0.3}, "b": {0.9}}


def test_a_draw_depends_on_seed_epoch_and_example_only() -> None:
    answers = {letter: 1.0 for letter in "abcdefgh"}
    data = prepared(*(asked(i, answers) for i in range(40)))

    def drawn(seed: int, epoch: int, size: int = 40) -> dict[int, str]:
        found = [data.batch(epoch, i, size, seed) for i in range(40 // size)]
        return {i: word for batch in found for i, word in zip(batch.ids, words(batch.labels), strict=True)}

    assert drawn(1, 0) == drawn(1, 0, size=5) == drawn(1, 0)
    assert len({tuple(sorted(drawn(seed, epoch).items())) for seed in (1, 2) for epoch in (0, 1)}) == 4
    assert len(set(drawn(1, 0).values())) > 3


@pytest.mark.parametrize("answers", [{}, {"net": 0.0}, {"net": 0.0, "fish": 0.0}])
def test_an_example_without_a_scored_answer_stays_with_the_empty_target_and_weight_0(answers: dict[str, float]) -> None:
    batch = prepared(asked(0, answers)).batch(0, 0, 1, seed=0)
    assert batch.labels.tolist() == [[0, 2]]
    assert batch.weights.tolist() == [0.0]


def test_collating_takes_the_best_answer_or_draws() -> None:
    data = prepared(asked(0, {"a": 0.3, "b": 0.9}), asked(1, {}))
    best = data.collate([1, 0, 0])
    assert words(best.labels) == ["", "b", "b"]
    assert best.labels[0].unique().tolist() == [-100]
    assert [round(w, 6) for w in best.weights.tolist()] == [0.0, 0.9, 0.9]
    assert {words(data.collate([0], draw=seed).labels)[0] for seed in range(40)} == {"a", "b"}
    assert words(data.collate([0], draw=3).labels) == words(data.collate([0], draw=3).labels)
    assert set(prepared(asked(0, {})).collate([0], draw=1).labels.flatten().tolist()) == {-100}


def test_moving_a_batch_keeps_what_it_says() -> None:
    batch = prepared(asked(0), asked(1)).collate([1, 0])
    moved = batch.to(torch.device("meta"))
    assert (moved.task, moved.ids) == ("vqa", [1, 0])
    assert {value.device.type for value in vars(moved).values() if isinstance(value, torch.Tensor)} == {"meta"}
    assert batch.to(torch.device("cpu")) is batch


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_features_of_another_shape_are_named(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    class Uneven:
        def load(self, example: Example) -> np.ndarray:
            return np.zeros((2 + (example.id == "1"), 3), np.float32)

    monkeypatch.setattr(batches, "PREFETCH_BYTES", limit)
    data = TokenizedSplit(VQA, [asked(0), asked(1)], Letters(), Uneven(), prefix=False)
    with pytest.raises(UsageError, match=r"^1: features of shape \(3, 3\), but those of 0 have \(2, 3\)"):
        data.collate([0, 1])


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_makes_batches_from_its_official_files(tiny_root: Path, name: str) -> None:
    task = tasks.get(name)
    kind = suites.get(task.suite).features.kind
    data = TokenizedSplit(
        task, task.read(tiny_root, "train"), Letters(), FeatureStore(tiny_root, kind, n_frames=16), prefix=True
    )
    seen = [i for index in range(-(-len(data) // 8)) for i in data.batch(0, index, 8, seed=0).ids]
    assert sorted(seen) == list(range(len(data)))
    batch = data.batch(0, 0, 8, seed=0)
    assert batch.vis_feats.dim() == (4 if name == "nlvr" else 3)
    assert (batch.labels != -100).any(dim=1).all()
    assert (batch.weights > 0).all()
    texts = dataclasses.replace(task, source_limit=None)
    whole = TokenizedSplit(texts, data.examples, Letters(), Ones(), prefix=True)
    assert max(whole.length(i) for i in range(len(whole))) > 5
