"""Reading ahead and writing behind: the same items in the same order, and no fault is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from tasks.beside import ahead, behind


def test_the_next_item_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]

    def make() -> Iterator[int]:
        for number in range(3):
            begun[number].set()
            yield number
        begun[3].set()

    used = []
    with ahead(make()) as items:
        for item in items:
            assert begun[item + 1].wait(10)  # before the next is asked for
            used.append(item)
    assert used == [0, 1, 2]


def test_a_fault_in_making_is_raised_where_the_item_is_asked_for() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise ValueError("the file ends here")

    used = []
    with pytest.raises(ValueError, match="ends here"), ahead(make()) as items:
        for item in items:
            used.append(item)
    assert used == [1]


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), ahead(iter(range(1000))) as items:
        for _ in items:
            raise KeyError
    assert threading.active_count() == before


def test_work_is_done_in_its_order_and_all_of_it_at_the_end() -> None:
    done: list[int] = []
    with behind() as take_on:
        for number in range(5):
            take_on(partial(done.append, number))
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("num_after", [0, 1])
def test_a_fault_in_the_work_is_raised_with_the_next_or_at_the_end(num_after: int) -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"), behind() as take_on:
        take_on(fail)
        for number in range(num_after):
            take_on(partial(done.append, number))
    assert done == []
