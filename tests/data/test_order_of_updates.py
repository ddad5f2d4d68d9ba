"""Which batch every update gets: each example once per epoch, whatever the seed, and the same after a resumption."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import suites, tasks
from bench.config import Recipe
from bench.data.batches import Batch, TokenizedSplit
from bench.tasks import Example
from bench.train import TrainingPlan

NAMES = tasks.names("image-text")


class Letters:
    """A tokeniser of letters."""

    pad_id = 1
    positions = None

    digest = None

    def encode(self, text: str, limit: int | None) -> list[int]:
        return [0, *map(ord, text), 2][:limit]

    def encode_all(self, texts: Sequence[str], limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        rows = [self.encode(text, limit) for text in texts]
        return np.array([i for row in rows for i in row], np.int32), np.array([len(row) for row in rows])


class Numbers:
    """Features that say which example they belong to."""

    def load(self, example: Example) -> np.ndarray:
        return np.full((2, 3), float(example.id), np.float32)


def planned(sizes: tuple[int, ...], batch_size: int, epochs: int) -> tuple[TrainingPlan, Recipe]:
    data = {}
    for name, size in zip(NAMES, sizes, strict=True):
        examples = [Example(str(i), "q", (f"{i}",), (("a", 0.3), ("b", 0.6), ("c", 1.0))) for i in range(size)]
        data[name] = TokenizedSplit(tasks.get(name), examples, Letters(), Numbers(), prefix=True)
    recipe = Recipe(lr=1e-3, batch_size=batch_size, epochs=epochs)
    return TrainingPlan.of(suites.get("image-text").tasks, data, recipe), recipe


def same(a: Batch, b: Batch) -> bool:
    return (a.task, a.ids) == (b.task, b.ids) and all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("input_ids", "labels", "vis_feats", "weights")
    )


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(1, 20), st.integers(0, 99))
def test_every_example_exactly_once_per_epoch(sizes: tuple[int, ...], batch_size: int, seed: int) -> None:
    plan, recipe = planned(sizes, batch_size, epochs=2)
    drawn = list(plan.batches(0, recipe, seed))
    assert len(drawn) == plan.steps == 2 * sum(plan.sizes.values())
    for epoch in (drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]):
        for name, size in zip(NAMES, sizes, strict=True):
            seen = [i for batch in epoch if batch.task == name for i in batch.ids]
            assert sorted(seen) == list(range(size))


def test_batches_have_the_size_of_their_task_and_only_the_last_is_smaller() -> None:
    plan, recipe = planned((50, 50, 50, 50), 12, epochs=1)
    sizes: dict[str, list[int]] = {name: [] for name in NAMES}
    for batch in plan.batches(0, recipe, 1):
        sizes[batch.task].append(len(batch.ids))
    assert sizes == {
        "vqa": [12, 12, 12, 12, 2],
        "gqa": [20, 20, 10],
        "nlvr": [4] * 12 + [2],
        "caption": [10] * 5,
    }


def test_the_order_is_that_of_the_epoch_for_every_seed_and_answers_are_the_seeds() -> None:
    plan, recipe = planned((30, 30, 10, 20), 6, epochs=2)
    one, two = (list(plan.batches(0, recipe, seed)) for seed in (1, 2))
    assert [(b.task, b.ids) for b in one] == [(b.task, b.ids) for b in two]
    assert not all(same(a, b) for a, b in zip(one, two, strict=True))
    half = len(one) // 2
    assert [(b.task, b.ids) for b in one[:half]] != [(b.task, b.ids) for b in one[half:]]


@pytest.mark.parametrize("epochs", [1, 3])
def test_batches_after_a_resumption_at_any_step(epochs: int) -> None:
    plan, recipe = planned((9, 7, 3, 5), 3, epochs)
    whole = list(plan.batches(0, recipe, seed=4))
    fresh, _ = planned((9, 7, 3, 5), 3, epochs)
    for start in range(plan.steps + 1):
        resumed = list(fresh.batches(start, recipe, seed=4))
        assert len(resumed) == plan.steps - start
        assert all(same(a, b) for a, b in zip(resumed, whole[start:], strict=True))


def test_a_number_of_steps_cuts_the_last_epoch() -> None:
    plan, recipe = planned((9, 7, 3, 5), 3, epochs=9)
    per_epoch = sum(plan.sizes.values())
    short = TrainingPlan.of(
        suites.get("image-text").tasks, dict(plan.data), recipe.model_copy(update={"steps": per_epoch + 2})
    )
    whole = list(islice(plan.batches(0, recipe, 1), per_epoch + 2))
    cut = list(short.batches(0, recipe, 1))
    assert len(cut) == short.steps == per_epoch + 2
    assert all(same(a, b) for a, b in zip(cut, whole, strict=True))
