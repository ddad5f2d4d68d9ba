"""Memory that is lent again: never while anything refers to it."""

import gc
from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data.buffers import KEPT, Buffers


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 50), st.booleans()), max_size=30))
def test_what_is_lent_keeps_its_content_until_nothing_refers_to_it(orders: list[tuple[int, int, bool]]) -> None:
    buffers, held = Buffers(), {}
    for number, (slot, size, as_view) in enumerate(orders):
        tensor = buffers.lend(size, 2).fill_(number)
        held[slot] = (tensor[size // 2 :, 1] if as_view else tensor, number)
        assert all((values == content).all() for values, content in held.values())


def test_memory_is_lent_again_and_not_hoarded() -> None:
    buffers = Buffers()
    places = {buffers.lend(3, 4).data_ptr() for _ in range(20)}
    gc.collect()
    assert len(places) == 1
    many = [buffers.lend(5) for _ in range(KEPT + 10)]
    del many
    assert len(buffers._free) == KEPT


def test_threads_never_share_memory() -> None:
    buffers = Buffers()

    def fill(number: int) -> bool:
        tensor = buffers.lend(1000).fill_(number)
        return bool((tensor == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(500)))
    assert torch.equal(buffers.lend(2).fill_(1), torch.ones(2))
