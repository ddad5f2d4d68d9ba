"""The examples of a split as columns: arrays that are made from examples, and examples that are made from arrays."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from bench.data.mapped_arrays import Arrays
from bench.data.strings import Strings
from bench.tasks import Example

Index = NDArray[np.int32]
T = TypeVar("T")


@dataclass(frozen=True)
class Columns:
    """What batches need of the examples of a split.

    Attributes:
        texts, text_of: the distinct texts, and the index of each example's.
        first_of_text: the first example of each text.
        first_of_visual, visual_of: an example of each distinct tuple of visual files, and the index of each example's.
        answers: the distinct candidate answers.
        answer_begins, answer_of, scores: the candidates of example i are ``answer_of[answer_begins[i] :
            answer_begins[i + 1]]``, with their scores at the same places.
    """

    texts: Sequence[str]
    text_of: Index
    first_of_text: Index
    first_of_visual: Index
    visual_of: Index
    answers: Sequence[str]
    answer_begins: NDArray[np.int64]
    answer_of: Index
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Columns":
        """Return the columns of examples; those of a table are there already."""
        if isinstance(examples, ExampleTable):
            return examples.columns
        texts, visuals, answers = Numbered[str](), Numbered[tuple[str, ...]](), Numbered[str]()
        text_of = texts.numbers(example.text for example in examples)
        visual_of = visuals.numbers(example.visual for example in examples)
        answer_of = answers.numbers(answer for example in examples for answer, _ in example.answers)
        scores = np.array([score for example in examples for _, score in example.answers], np.float64)
        begins = np.zeros(len(examples) + 1, np.int64)
        np.cumsum(np.fromiter((len(e.answers) for e in examples), np.int64, len(examples)), out=begins[1:])
        return cls(
            texts=texts.items,
            text_of=text_of,
            first_of_text=_first(text_of),
            first_of_visual=_first(visual_of),
            visual_of=visual_of,
            answers=answers.items,
            answer_begins=begins,
            answer_of=answer_of,
            scores=scores,
        )


def _first(numbers: Index) -> Index:
    """Return where each of the numbers 0, 1, ... comes first."""
    return np.unique(numbers, return_index=True)[1].astype(np.int32)


class Numbered(Generic[T]):
    """Numbers distinct items in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}

    def numbers(self, items: Iterable[T]) -> Index:
        """Return the number of every item."""
        numbers = self._numbers
        return np.fromiter((numbers.setdefault(item, len(numbers)) for item in items), np.int32)

    @property
    def items(self) -> list[T]:
        return list(self._numbers)


class ExampleTable(Sequence[Example]):
    """The examples of a split, made one by one from arrays when they are looked at.

    Args:
        arrays: what :func:`table_arrays` returns.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._ids = _strings(arrays, "ids")
        self._visuals = _strings(arrays, "visuals")
        self._transcripts = arrays["transcripts"]
        self._json = _strings(arrays, "json")
        self._reference_of, self._official_of = arrays["reference_of"], arrays["official_of"]
        self.columns = Columns(
            texts=_strings(arrays, "texts"),
            text_of=arrays["text_of"],
            first_of_text=arrays["first_of_text"],
            first_of_visual=arrays["first_of_visual"],
            visual_of=arrays["visual_of"],
            answers=_strings(arrays, "answers"),
            answer_begins=arrays["answer_begins"],
            answer_of=arrays["answer_of"],
            scores=arrays["scores"],
        )

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            numbers = range(*index.indices(len(self)))
            return self if numbers == range(len(self)) else [self[i] for i in numbers]
        columns = self.columns
        identifier = self._ids[index]  # IndexError where there is none
        index %= len(self)
        begin, end = columns.answer_begins[index], columns.answer_begins[index + 1]
        answers = [columns.answers[i] for i in columns.answer_of[begin:end].tolist()]
        return Example(
            id=identifier,
            text=columns.texts[int(columns.text_of[index])],
            visual=tuple(self._visuals[int(columns.visual_of[index])].split("\n")),
            answers=tuple(zip(answers, columns.scores[begin:end].tolist(), strict=True)),
            reference=self._value(self._reference_of[index]),
            official=self._value(self._official_of[index]),
            transcript=(int(self._transcripts[index, 0]), int(self._transcripts[index, 1])),
        )

    def _value(self, index: int) -> Any:
        return json.loads(self._json[int(index)])

    @property
    def visual_files(self) -> list[str]:
        """The distinct visual files in the order in which they come."""
        return list(dict.fromkeys(name for names in self._visuals.to_list() for name in names.split("\n")))


def visual_files(examples: Sequence[Example]) -> list[str]:
    """Return the distinct visual files of examples in the order in which they come."""
    if isinstance(examples, ExampleTable):
        return examples.visual_files
    return list(dict.fromkeys(name for example in examples for name in example.visual))


def _strings(arrays: Arrays, name: str) -> Strings:
    return Strings(arrays[name], arrays[f"{name}_begins"])


def table_arrays(examples: Sequence[Example]) -> Arrays | None:
    """Return the arrays of a table; None where the examples hold something that a table would change."""
    columns = Columns.of(examples)
    visuals = ["\n".join(examples[i].visual) for i in columns.first_of_visual.tolist()]
    if any(
        name.count("\n") != len(examples[i].visual) - 1
        for name, i in zip(visuals, columns.first_of_visual, strict=True)
    ):
        return None
    texts = _JsonTexts()
    try:
        reference_of = texts.numbers(example.reference for example in examples)
        official_of = texts.numbers(example.official for example in examples)
    except (TypeError, ValueError):  # no plain JSON values
        return None
    arrays: Arrays = {
        "text_of": columns.text_of,
        "first_of_text": columns.first_of_text,
        "transcripts": np.array([example.transcript for example in examples], np.int32).reshape(-1, 2),
        "first_of_visual": columns.first_of_visual,
        "visual_of": columns.visual_of,
        "answer_begins": columns.answer_begins,
        "answer_of": columns.answer_of,
        "scores": columns.scores,
        "reference_of": reference_of,
        "official_of": official_of,
    }
    lists = {
        "ids": [example.id for example in examples],
        "texts": columns.texts,
        "visuals": visuals,
        "answers": columns.answers,
        "json": texts.items,
    }
    for name, strings in lists.items():
        column = Strings.of(strings)
        arrays |= {name: column.content, f"{name}_begins": column.begins}
    return arrays


class _JsonTexts:
    """Numbers distinct JSON values by their text; equal objects that are one are looked at once."""

    def __init__(self) -> None:
        self._texts = Numbered[str]()
        self._last: dict[int, tuple[Any, int]] = {}

    def numbers(self, values: Iterable[Any]) -> Index:
        """Return the number of every value.

        Raises:
            TypeError, ValueError: a value would be another one after it was written and read.
        """
        return np.fromiter((self._number(value) for value in values), np.int32)

    def _number(self, value: Any) -> int:
        seen = self._last.get(id(value))
        if seen is not None and seen[0] is value:
            return seen[1]
        text = json.dumps(value, allow_nan=False)
        if repr(json.loads(text)) != repr(value):
            raise ValueError("not the same after reading")
        number = int(self._texts.numbers([text])[0])
        self._last[id(value)] = value, number
        return number

    @property
    def items(self) -> list[str]:
        return self._texts.items
