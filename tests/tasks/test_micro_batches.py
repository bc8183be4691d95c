"""Micro-batches: many callers, one thread, answers in their order, and never more waiting than may wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from tasks.micro_batches import MicroBatches, Overloaded, Stopping

Opened = Callable[..., MicroBatches[int, int]]


class Doubler:
    """Doubles numbers, as soon as it may; 13 it cannot double."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.begun.set()
        assert self.may_go_on.wait(30)
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def open_queue(doubler: Doubler) -> Iterator[Opened]:
    opened: list[MicroBatches[int, int]] = []

    def open_(**settings: object) -> MicroBatches[int, int]:
        opened.append(MicroBatches(doubler, name="test", **settings))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    doubler.may_go_on.set()
    for queue in opened:
        queue.close()


def ask_while_busy(doubler: Doubler, queue: MicroBatches[int, int], numbers: Sequence[int]) -> list[Future[int]]:
    """The first one is being answered while the others are asked."""
    doubler.may_go_on.clear()
    first = queue.ask(numbers[0], 1)
    assert doubler.begun.wait(30)
    return [first, *(queue.ask(number, 1) for number in numbers[1:])]


def test_what_waits_at_the_same_time_is_answered_together(doubler: Doubler, open_queue: Opened) -> None:
    futures = ask_while_busy(doubler, open_queue(batch_rows=3), range(6))
    doubler.may_go_on.set()
    assert [future.result(30) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 2, 3], [4, 5]]


def test_one_that_cannot_be_answered_does_not_spoil_the_others(doubler: Doubler, open_queue: Opened) -> None:
    futures = ask_while_busy(doubler, open_queue(), [1, 2, 13, 3])
    doubler.may_go_on.set()
    assert [futures[place].result(30) for place in (0, 1, 3)] == [2, 4, 6]
    with pytest.raises(ValueError, match="13"):
        futures[2].result(30)


def test_more_than_may_wait_is_refused_and_what_waits_is_answered(doubler: Doubler, open_queue: Opened) -> None:
    queue = open_queue(most_waiting=2)
    futures = ask_while_busy(doubler, queue, [1, 2, 3])
    assert queue.rows_waiting == 2
    with pytest.raises(Overloaded, match="More is waiting"):
        queue.ask(4, 1)
    doubler.may_go_on.set()
    assert [future.result(30) for future in futures] == [2, 4, 6]


def test_a_large_question_is_taken_on_where_nothing_waits(open_queue: Opened) -> None:
    assert open_queue(most_waiting=2).ask(4, 1000).result(30) == 8


def test_a_question_that_nobody_waits_for_any_more_is_left_out(doubler: Doubler, open_queue: Opened) -> None:
    futures = ask_while_busy(doubler, open_queue(), [1, 2, 3])
    assert futures[1].cancel()
    doubler.may_go_on.set()
    assert futures[2].result(30) == 6 and doubler.batches == [[1], [3]]


def test_what_was_taken_on_is_answered_before_the_end_and_nothing_after_it(
    doubler: Doubler, open_queue: Opened
) -> None:
    queue = open_queue()
    futures = ask_while_busy(doubler, queue, [1, 2, 3])
    doubler.may_go_on.set()
    queue.close()
    assert [future.result(0) for future in futures] == [2, 4, 6]
    with pytest.raises(Stopping):
        queue.ask(4, 1)
