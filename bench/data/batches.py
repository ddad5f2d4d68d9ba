"""The tokenised examples of a split, and the official order of batches."""

import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.losses import IGNORED
from bench.tasks import Example, Task
from bench.tasks.tolerance import Tolerance

Ids: TypeAlias = "array[int]"  # 4 bytes each: a million questions, or transcripts of 600 tokens, fit in memory
PREFETCH_BYTES = 1 << 30  # features of a task up to this size are kept as one tensor, so that a batch is one look-up


class FeatureSource(Protocol):
    """Gives the features of examples."""

    def load(self, example: Example) -> Any:
        """Return the features of an example, float32: ``(v, f)``, or ``(2, v, f)`` for a pair of images."""


class TextEncoder(Protocol):
    """What batches need of a tokeniser: its padding id, and the encoding of a text."""

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""

    @property
    def positions(self) -> int | None:
        """The largest number of ids of a text that the model can read; None for any number."""

    def encode(self, text: str, max_length: int | None) -> list[int]:
        """Return ids with special tokens, at most ``max_length``."""


@dataclass(frozen=True)
class Share:
    """What one of several processes does of every batch: each ``size``-th of its examples, sorted by length, so that
    all have about as much to do.

    Attributes:
        rank, size: which process, from 0, of how many.
        trim: whether its part has no more padding than it needs (:meth:`Batch.split`).
    """

    rank: int = 0
    size: int = 1
    trim: bool = True


ALL = Share()


@dataclass(frozen=True)
class Batch:
    """A batch of one task, or a process's share of it, which may have no examples.

    Attributes:
        task: its name.
        ids: indices of the examples.
        input_ids: ``(b, t)``, padded with the pad id.
        labels: ``(b, u)``, padded with -100.
        vis_feats: ``(b, v, f)`` or ``(b, 2, v, f)``, float32.
        weights: ``(b,)``, the score of the answer drawn.
        text_lengths: the number of tokens of every text, without padding.
        totals: the numbers of examples and labels of the batch of which this is a share, None where it is no share.
    """

    task: str
    ids: list[int]
    input_ids: Tensor
    labels: Tensor
    vis_feats: Tensor
    weights: Tensor
    text_lengths: list[int]
    totals: tuple[int, int] | None = None

    @property
    def examples(self) -> int:
        """The number of examples of the batch, those of the shares of other processes included."""
        return self.totals[0] if self.totals else len(self.ids)

    @cached_property
    def label_positions(self) -> Tensor:
        """The indices of the labels that are not -100, ``(n,)``, among all ``b u`` ones."""
        return (self.labels != IGNORED).flatten().nonzero().squeeze(1)

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors to a device, without waiting for them."""
        if device.type == "cpu":
            return self
        names = ("input_ids", "labels", "vis_feats", "weights")
        moved = replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})
        # Computed there, their number would have to come back from the device.
        moved.__dict__["label_positions"] = self.label_positions.to(device, non_blocking=True)
        return moved

    def split(self, size: int, *, trim: bool) -> list["Batch"]:
        """Split the batch into parts of at most ``size`` examples of similar length.

        Args:
            size: number of examples of a part.
            trim: cut the padding that no example of a part needs; not for models in which padding has an effect.
        """
        if len(self.ids) <= size:
            return [self]
        answer_lengths = (self.labels != IGNORED).sum(dim=1).tolist()
        order = sorted(range(len(self.ids)), key=lambda i: (self.text_lengths[i] + answer_lengths[i], i))
        parts = []
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            text = max(self.text_lengths[i] for i in rows) if trim else None
            answer = max(1, *(answer_lengths[i] for i in rows)) if trim else None
            parts.append(
                Batch(
                    task=self.task,
                    ids=[self.ids[i] for i in rows],
                    input_ids=self.input_ids[rows, :text],
                    labels=self.labels[rows, :answer],
                    vis_feats=self.vis_feats[rows],
                    weights=self.weights[rows],
                    text_lengths=[self.text_lengths[i] for i in rows],
                )
            )
        return parts


def schedule(epoch: int, sizes: Mapping[str, int]) -> list[str]:
    """Return which task each update of an epoch works on.

    Every task's name stands in a list once per batch, the list is shuffled by the epoch's number and consumed from its
    end: so it is the same for every seed (quirk ORDER-SEED).
    """
    order = [name for name, count in sizes.items() for _ in range(count)]
    random.Random(epoch).shuffle(order)
    return order[::-1]


class TokenizedSplit:
    """The examples of one task and split, tokenised once.

    Texts are cut to the task's limit, or to the positions of the model where those are fewer; the second is counted
    (:mod:`bench.tasks.tolerance`). With ``truncation`` "official" a source text loses its end (quirks SUBS-TRUNC and
    VQA20). With "keep-question" its transcript loses last words instead, and a text without one is not cut to the
    task's limit; where the rest alone is too long, its end is cut all the same.

    Attributes:
        task, examples: the task and its examples.
        tolerated: what reading and encoding the examples met that is odd, by kind.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Example],
        text: TextEncoder,
        store: FeatureSource,
        *,
        prefix: bool,
        truncation: str = "official",
        tolerated: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.task = task
        self.examples = list(examples)
        self.tolerated = Counter(tolerated)
        self._text = text
        self._store = store
        self._sources = self._encoded(prefix, truncation)
        self._targets: dict[str, Ids] = {}
        self._order: tuple[int, list[int]] = (-1, [])

    def _encoded(self, prefix: bool, truncation: str) -> list[Ids]:
        """Encode the sources; equal ones (all COCO images, the captions of one clip) share their ids."""
        ids_of: dict[str, Ids] = {}
        encoded = []
        for example in self.examples:
            source = self.task.source(example, prefix)
            if source not in ids_of:
                if truncation == "keep-question":
                    ids = self._encode_keeping_question(example, prefix)
                else:
                    ids = self._encode(source, self.task.source_limit)
                ids_of[source] = array("i", ids)
            encoded.append(ids_of[source])
        return encoded

    def _encode_keeping_question(self, example: Example, prefix: bool) -> list[int]:
        """Encode a source whose transcript keeps as many of its first words as there is room for."""
        begin, end = example.transcript
        limit, positions = self.task.source_limit, self._text.positions
        if begin == end:
            return self._encode(self.task.source(example, prefix), None)
        words = example.text[begin:end].split(" ")

        def source(count: int) -> str:
            text = f"{example.text[:begin]}{' '.join(words[:count])}{example.text[end:]}"
            return self.task.source(replace(example, text=text), prefix)

        def length(count: int) -> int:
            return len(self._text.encode(source(count), None))

        room = min((size for size in (limit, positions) if size is not None), default=None)
        if room is None or length(len(words)) <= room:
            return self._text.encode(source(len(words)), None)
        if room != limit:
            self.tolerated[Tolerance.BEYOND_POSITIONS.value] += 1
        fitting = bisect_right(range(len(words)), room, key=length)  # so many of the counts 0, 1, ... leave room
        return self._text.encode(source(max(fitting - 1, 0)), room)

    def _encode(self, text: str, limit: int | None) -> list[int]:
        positions = self._text.positions
        if positions is None or (limit is not None and limit <= positions):
            return self._text.encode(text, limit)
        ids = self._text.encode(text, limit)
        if len(ids) <= positions:
            return ids
        self.tolerated[Tolerance.BEYOND_POSITIONS.value] += 1
        return self._text.encode(text, positions)

    def __len__(self) -> int:
        return len(self.examples)

    def length(self, index: int) -> int:
        """Return the number of source tokens of an example."""
        return len(self._sources[index])

    def batch(self, epoch: int, index: int, size: int, seed: int, share: Share = ALL) -> Batch:
        """Return batch ``index`` of an epoch, or a process's share of it; the last one of an epoch may be smaller.

        The order depends on the epoch only. The answer of each example is drawn by a generator of its own, from (seed,
        epoch, example): not from numpy's global state in loader workers, as the official code does (quirk NP-SEED).
        """
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(epoch)
            self._order = (epoch, torch.randperm(len(self), generator=generator).tolist())
        chosen = self._order[1][index * size : (index + 1) * size]
        answers = [self._draw(i, f"{seed}/{epoch}/{i}") for i in chosen]
        return self._collate(chosen, answers) if share.size == 1 else self._share(chosen, answers, share)

    def collate(self, chosen: Sequence[int], draw: int | None = None) -> Batch:
        """Return a batch of the given examples; answers are drawn with a seed, or the best ones taken.

        The label row of an example without answers is -100 throughout.
        """
        answers = [self._best(i) if draw is None else self._draw(i, f"{draw}/{i}") for i in chosen]
        batch = self._collate(list(chosen), answers)
        for row, index in enumerate(chosen):
            if not self.examples[index].answers:
                batch.labels[row] = IGNORED
        return batch

    def answer_length(self, index: int) -> int:
        """Return the number of tokens of an example's best answer, that of an empty text where it has none."""
        return len(self._target(self._best(index)[0]))

    def _best(self, index: int) -> tuple[str, float]:
        return max(self.examples[index].answers, key=lambda answer: answer[1], default=("", 0.0))

    def _draw(self, index: int, seed: str) -> tuple[str, float]:
        answers = self.examples[index].answers
        if not any(score for _, score in answers):
            return "", 0.0  # stays in the batch with weight 0 (quirk VQA-ZERO)
        if len(answers) == 1:
            return answers[0]
        return random.Random(seed).choices(answers, [score for _, score in answers])[0]

    def _collate(self, chosen: list[int], answers: list[tuple[str, float]]) -> Batch:
        return Batch(
            task=self.task.name,
            ids=chosen,
            input_ids=_padded([self._sources[i] for i in chosen], self._text.pad_id),
            labels=_padded([self._target(answer) for answer, _ in answers], IGNORED),
            vis_feats=self._features(chosen),
            weights=torch.tensor([score for _, score in answers]),
            text_lengths=[self.length(i) for i in chosen],
        )

    def _share(self, chosen: list[int], answers: list[tuple[str, float]], share: Share) -> Batch:
        """Collate a process's share of a batch; no features are read but its own."""
        texts = [self.length(index) for index in chosen]
        labels = [len(self._target(answer)) for answer, _ in answers]
        rows = sorted(range(len(chosen)), key=lambda row: (texts[row] + labels[row], row))[share.rank :: share.size]
        batch = self._collate([chosen[row] for row in rows], [answers[row] for row in rows])
        padding = (0, 0) if share.trim else (max(texts), max(labels))
        return replace(
            batch,
            input_ids=_widened(batch.input_ids, padding[0], self._text.pad_id),
            labels=_widened(batch.labels, padding[1], IGNORED),
            totals=(len(chosen), sum(labels)),
        )

    def _target(self, answer: str) -> Ids:
        if answer not in self._targets:
            self._targets[answer] = array("i", self._encode(answer, self.task.target_limit))
        return self._targets[answer]

    @cached_property
    def _first(self) -> np.ndarray:
        return self._store.load(self.examples[0])

    def _load(self, index: int) -> np.ndarray:
        example = self.examples[index]
        features = self._store.load(example)
        if features.shape != self._first.shape:
            raise UsageError(
                f"{' and '.join(example.visual)}: features of shape {features.shape}, but those of "
                f"{' and '.join(self.examples[0].visual)} have {self._first.shape}; extract them the same way"
            )
        return features

    @cached_property
    def _table(self) -> tuple[Tensor, list[int]] | None:
        """All features as one tensor and each example's row in it, or None where they are too large to keep."""
        rows: dict[tuple[str, ...], int] = {}
        index = [rows.setdefault(e.visual, len(rows)) for e in self.examples]
        if self._first.nbytes * len(rows) > PREFETCH_BYTES:
            return None
        table = torch.empty(len(rows), *self._first.shape)
        for row, example in {row: i for i, row in enumerate(index)}.items():
            table[row] = torch.from_numpy(self._load(example))
        return table, index

    def _features(self, chosen: list[int]) -> Tensor:
        if self._table is not None:
            table, index = self._table
            return table[[index[i] for i in chosen]]
        if not chosen:
            return torch.empty(0, *self._first.shape)
        return torch.from_numpy(np.stack([self._load(i) for i in chosen]))


def _padded(rows: Sequence[Ids], value: int) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows), default=0)), value, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(padded)


def _widened(rows: Tensor, width: int, value: int) -> Tensor:
    """Pad ``(b, t)`` to at least ``width`` columns."""
    return torch.nn.functional.pad(rows, (0, max(0, width - rows.shape[1])), value=value)
