"""The tokenised examples of a split, and the official order of batches."""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.data.buffers import Buffers
from bench.data.columns import Columns, Index
from bench.data.token_ids import TextEncoder, TokenIds, token_ids
from bench.errors import UsageError
from bench.losses import IGNORED
from bench.tasks import Example, Task
from bench.tasks.tolerance import Tolerance

NO_ANSWER = -1  # the number of the empty answer of an example without one
PREFETCH_BYTES = 1 << 30  # features of a task up to this size are kept as one tensor, so that a batch is one look-up


class FeatureSource(Protocol):
    """Gives the features of examples."""

    def load(self, example: Example) -> Any:
        """Return the features of an example, float32: ``(v, f)``, or ``(2, v, f)`` for a pair of images."""


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
BUFFERS = Buffers()


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

    def pinned(self) -> "Batch":
        """Return the batch in pinned memory; what is there already is not copied."""
        names = ("input_ids", "labels", "vis_feats", "weights")
        batch = replace(self, **{name: getattr(self, name).pin_memory() for name in names})
        batch.__dict__["label_positions"] = self.label_positions.pin_memory()
        return batch

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
        self.examples = examples
        self._columns = Columns.of(examples)
        self._pad_id = text.pad_id
        self._store = store
        before, _, behind = task.source_of("\0", prefix).partition("\0")
        if truncation == "keep-question":
            self._sources = self._keeping_questions(text, (before, behind))
        else:
            self._sources = token_ids(self._columns.texts, text, task.source_limit, (before, behind))
        self._targets = token_ids(self._columns.answers, text, task.target_limit)
        self._no_target = token_ids([""], text, task.target_limit)[0]
        self.tolerated = Counter(tolerated)
        if cut := self._sources.cut + self._targets.cut:
            self.tolerated[Tolerance.BEYOND_POSITIONS.value] += cut
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def _keeping_questions(self, encoder: TextEncoder, around: tuple[str, str]) -> TokenIds:
        """Encode the sources, whose transcripts keep as many of their first words as there is room for."""
        texts = list(self._columns.texts)
        spans = [self.examples[i].transcript for i in self._columns.first_of_text.tolist()]
        if all(begin == end for begin, end in spans):
            return token_ids(texts, encoder, None, around)
        parts = []
        for text, (begin, end) in zip(texts, spans, strict=True):
            if begin == end:
                parts.append(token_ids([text], encoder, None, around))
            else:
                parts.append(self._keeping_question(encoder, text[:begin], text[begin:end], text[end:], around))
        return TokenIds.join(parts)

    def _keeping_question(
        self, encoder: TextEncoder, before: str, transcript: str, behind: str, around: tuple[str, str]
    ) -> TokenIds:
        words = transcript.split(" ")

        def source(count: int) -> str:
            return f"{before}{' '.join(words[:count])}{behind}".join(around)

        def length(count: int) -> int:
            return len(encoder.encode(source(count), None))

        limit, positions = self.task.source_limit, encoder.positions
        room = min((size for size in (limit, positions) if size is not None), default=None)
        if room is None or length(len(words)) <= room:
            return TokenIds.of(encoder.encode(source(len(words)), None))
        fitting = bisect_right(range(len(words)), room, key=length)  # so many of the counts 0, 1, ... leave room
        return TokenIds.of(encoder.encode(source(max(fitting - 1, 0)), room), cut=int(room != limit))

    def __len__(self) -> int:
        return len(self.examples)

    def length(self, index: int) -> int:
        """Return the number of source tokens of an example."""
        return self._sources.length(self._columns.text_of[index])

    @property
    def is_in_memory(self) -> bool:
        """Whether all features are kept as one tensor, so that a batch takes no time worth mentioning."""
        return self._table is not None

    def batch(self, epoch: int, index: int, size: int, seed: int, share: Share = ALL, *, pin: bool = False) -> Batch:
        """Return batch ``index`` of an epoch, or a process's share of it; the last one of an epoch may be smaller.

        Several threads may make batches at once. The order depends on the epoch only. The answer of each example is
        drawn by a generator of its own, from (seed, epoch, example): not from numpy's global state in loader workers,
        as the official code does (quirk NP-SEED). With ``pin`` the tensors are in pinned memory, from which a GPU
        copies without being waited for.
        """
        order = self._order
        if order[0] != epoch:
            generator = torch.Generator().manual_seed(epoch)
            order = self._order = (epoch, torch.randperm(len(self), generator=generator).numpy())
        chosen = order[1][index * size : (index + 1) * size].tolist()
        answers = [self._draw(i, f"{seed}/{epoch}/{i}") for i in chosen]
        return self._collate(chosen, answers, pin) if share.size == 1 else self._share(chosen, answers, share, pin)

    def collate(self, chosen: Sequence[int], draw: int | None = None) -> Batch:
        """Return a batch of the given examples; answers are drawn with a seed, or the best ones taken.

        The label row of an example without answers is -100 throughout.
        """
        answers = [self._best(i) if draw is None else self._draw(i, f"{draw}/{i}") for i in chosen]
        batch = self._collate(list(chosen), answers)
        for row, index in enumerate(chosen):
            if not self._answers(index):
                batch.labels[row] = IGNORED
        return batch

    def answer_length(self, index: int) -> int:
        """Return the number of tokens of an example's best answer, that of an empty text where it has none."""
        return len(self._target(self._best(index)[0]))

    def _best(self, index: int) -> tuple[int, float]:
        return max(self._answers(index), key=lambda answer: answer[1], default=(NO_ANSWER, 0.0))

    def _answers(self, index: int) -> list[tuple[int, float]]:
        """Return the candidate answers of an example, by their numbers, with their scores."""
        columns = self._columns
        begin, end = columns.answer_begins[index], columns.answer_begins[index + 1]
        return list(zip(columns.answer_of[begin:end].tolist(), columns.scores[begin:end].tolist(), strict=True))

    def _draw(self, index: int, seed: str) -> tuple[int, float]:
        answers = self._answers(index)
        if not any(score for _, score in answers):
            return NO_ANSWER, 0.0  # stays in the batch with weight 0 (quirk VQA-ZERO)
        if len(answers) == 1:
            return answers[0]
        return random.Random(seed).choices(answers, [score for _, score in answers])[0]

    def _collate(self, chosen: list[int], answers: list[tuple[int, float]], pin: bool = False) -> Batch:
        batch = Batch(
            task=self.task.name,
            ids=chosen,
            input_ids=_padded([self._sources[self._columns.text_of[i]] for i in chosen], self._pad_id),
            labels=_padded([self._target(answer) for answer, _ in answers], IGNORED),
            vis_feats=self._features(chosen, pin),
            weights=torch.tensor([score for _, score in answers]),
            text_lengths=[self.length(i) for i in chosen],
        )
        return batch.pinned() if pin else batch

    def _share(self, chosen: list[int], answers: list[tuple[int, float]], share: Share, pin: bool) -> Batch:
        """Collate a process's share of a batch; no features are read but its own."""
        texts = [self.length(index) for index in chosen]
        labels = [len(self._target(answer)) for answer, _ in answers]
        rows = sorted(range(len(chosen)), key=lambda row: (texts[row] + labels[row], row))[share.rank :: share.size]
        batch = self._collate([chosen[row] for row in rows], [answers[row] for row in rows])
        padding = (0, 0) if share.trim else (max(texts), max(labels))
        batch = replace(
            batch,
            input_ids=_widened(batch.input_ids, padding[0], self._pad_id),
            labels=_widened(batch.labels, padding[1], IGNORED),
            totals=(len(chosen), sum(labels)),
        )
        return batch.pinned() if pin else batch

    def _target(self, answer: int) -> np.ndarray:
        return self._no_target if answer == NO_ANSWER else self._targets[answer]

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
    def _table(self) -> tuple[Tensor, Index] | None:
        """All features as one tensor and each example's row in it, or None where they are too large to keep."""
        first = self._columns.first_of_visual
        if self._first.nbytes * len(first) > PREFETCH_BYTES:
            return None
        table = torch.empty(len(first), *self._first.shape)
        values = table.numpy()
        for row, index in enumerate(first.tolist()):
            values[row] = self._load(index)
        return table, self._columns.visual_of

    def _features(self, chosen: list[int], pin: bool) -> Tensor:
        if self._table is not None:
            table, index = self._table
            return table[torch.from_numpy(index[chosen]).long()]
        shape = (len(chosen), *self._first.shape)
        features = torch.empty(shape, pin_memory=True) if pin else BUFFERS.lend(*shape)
        values = features.numpy()
        for row, i in enumerate(chosen):
            values[row] = self._load(i)
        return features


def _padded(rows: Sequence[np.ndarray], value: int) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows), default=0)), value, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(padded)


def _widened(rows: Tensor, width: int, value: int) -> Tensor:
    """Pad ``(b, t)`` to at least ``width`` columns."""
    return torch.nn.functional.pad(rows, (0, max(0, width - rows.shape[1])), value=value)
